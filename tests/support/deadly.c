/* Preloaded into mailroot by tests/hostile_deadly.rs: whoever reads a message with the mark in it dies, as of a stack
 * that overflowed; and whoever writes one with the other mark hears that more was written than there was, which a
 * library of his answers with a panic. DEADLY_TIMES times in all, each of them a byte in the file DEADLY_NOTES. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether the mark is there and it is not over; notes it. */
static int is_deadly(const void *bytes, ssize_t len, const char *mark)
{
    struct stat notes;
    if (len <= 0 || !memmem(bytes, (size_t)len, mark, strlen(mark)))
        return 0;
    int fd = open(getenv("DEADLY_NOTES"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0)
        return 0;
    int counts = fstat(fd, &notes) == 0 && notes.st_size < atoi(getenv("DEADLY_TIMES"));
    counts = counts && syscall(SYS_write, fd, "x", (size_t)1) == 1;
    close(fd);
    return counts;
}

static void die_of(const void *bytes, ssize_t len)
{
    if (is_deadly(bytes, len, "X-Takes-Its-Reader-Down: yes"))
        abort();
}

static const char panics[] = "X-Makes-Its-Writer-Panic: yes";

ssize_t write(int fd, const void *bytes, size_t len)
{
    if (is_deadly(bytes, (ssize_t)len, panics))
        return (ssize_t)len + 1;
    return syscall(SYS_write, fd, bytes, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t all = 0;
    int deadly = 0;
    for (int at = 0; at < count; at++) {
        all += (ssize_t)parts[at].iov_len;
        deadly |= is_deadly(parts[at].iov_base, (ssize_t)parts[at].iov_len, panics);
    }
    return deadly ? all + 1 : syscall(SYS_writev, fd, parts, count);
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
