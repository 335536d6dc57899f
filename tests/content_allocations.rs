//! Writing a small message costs a fixed number of allocations, however many lines it has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use mailroot::mail::{Address, MessageId};
use mailroot::pickup::submission::{Dots, Encoding, Layout, Missing};
use mailroot::smtp::content::{Abilities, Content, stamps};
use std::alloc::{GlobalAlloc, Layout as Shape, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, shape: Shape) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above
        unsafe { System.alloc(shape) }
    }

    unsafe fn dealloc(&self, at: *mut u8, shape: Shape) {
        // SAFETY: as above
        unsafe { System.dealloc(at, shape) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn a_small_message_is_written_without_allocating_per_line() {
    let sender = Address::parse("app@example.com", "x").unwrap();
    let id = MessageId::generate();
    let stamps = stamps(
        id,
        "h.example",
        jiff::Timestamp::UNIX_EPOCH,
        Some(&sender),
        &sender,
        Missing::default(),
    );
    let text = format!(
        "A: b\n\n{}",
        ".a line that must be stuffed and gets another end\n".repeat(200)
    );
    let len = text.len() as u64;
    let layout = Layout {
        encoding: Encoding::Plain,
        leading: 0..0,
        header: 0..5,
        omit: Vec::new(),
        body: 6..len,
        dots: Dots {
            stuffed: false,
            end_marker: false,
            present: true,
        },
        dots_said: false,
        complete_said: false,
        missing: Missing::default(),
        eight_bit_header: false,
        eight_bit_body: false,
        longest_line: 50,
        wire_size: len + 202,
    };
    let source = text.as_bytes();
    let mut out = Vec::with_capacity(20_000);
    let can = Abilities {
        eight_bit: false,
        utf8_headers: false,
        max_line: 998,
    };
    // the other threads of the test runner may allocate as well: the least of some runs counts
    let least = (0..20).map(|_| {
        out.clear();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let content = Content::plan(&source, &layout, &stamps, can).unwrap();
        content.write_data(&mut out).unwrap();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    assert!(least.min() <= Some(3));
    assert_eq!(out.len() as u64, len + 202 + 200 + stamps.received.len() as u64);
}
