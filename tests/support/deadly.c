/* Preloaded into mailroot by tests/hostile_deadly.rs: whoever reads a message with the mark in it dies, as of a stack
 * that overflowed; DEADLY_TIMES times in all, each of them a byte in the file DEADLY_NOTES. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void die_of(const void *bytes, ssize_t len)
{
    static const char mark[] = "X-Takes-Its-Reader-Down: yes";
    struct stat notes;
    if (len <= 0 || !memmem(bytes, (size_t)len, mark, sizeof mark - 1))
        return;
    int fd = open(getenv("DEADLY_NOTES"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0 || fstat(fd, &notes) != 0 || notes.st_size >= atoi(getenv("DEADLY_TIMES")) || write(fd, "x", 1) != 1)
        return;
    abort();
}

ssize_t pread64(int fd, void *to, size_t len, off64_t at)
{
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pread64");
    ssize_t got = real(fd, to, len, at);
    die_of(to, got);
    return got;
}
