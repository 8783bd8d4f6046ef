//! Operations on an arena, against a model: values keep what was written to them, blocks do not
//! overlap, drops happen once, and all bytes add up.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spanalloc::arena::{Arena, ArenaBox, DropArena};
use std::alloc::Layout;
use std::rc::Rc;

#[derive(Arbitrary, Debug)]
enum Step {
    Layout { size: u16, align_log2: u8 },
    Text(String),
    Slice(Vec<u32>),
    Byte(u8),
    Word(u32),
    Five(u8),
    Large(u8),
    Huge(u8),
    DropBox(u8),
    IntoInner(u8),
    Owned(u8),
}

/// A box of one of the kinds that take different ways, and what must be in it.
enum Boxed<'a> {
    Byte(ArenaBox<'a, u8>, u8),
    Word(ArenaBox<'a, u32>, u32),
    Five(ArenaBox<'a, [u8; 5]>, u8),
    Large(ArenaBox<'a, (Rc<()>, [u8; 300])>, u8),
    Huge(ArenaBox<'a, [u8; 40_000]>, u8),
}

impl Boxed<'_> {
    fn check(&self) {
        match self {
            Boxed::Byte(value, expected) => assert_eq!(**value, *expected),
            Boxed::Word(value, expected) => assert_eq!(**value, *expected),
            Boxed::Five(value, expected) => assert_eq!(**value, [*expected; 5]),
            Boxed::Large(value, expected) => assert_eq!(value.1, [*expected; 300]),
            Boxed::Huge(value, expected) => assert!(value.iter().all(|byte| byte == expected)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Boxed::Byte(..) => 1,
            Boxed::Word(..) => 4,
            Boxed::Five(..) => 5,
            Boxed::Large(..) => size_of::<(Rc<()>, [u8; 300])>(),
            Boxed::Huge(..) => 40_000,
        }
    }
}

fuzz_target!(|rounds: Vec<Vec<Step>>| {
    let alive = Rc::new(());
    let (mut arena, mut owned) = (Arena::new(), DropArena::new());
    for steps in rounds {
        let (mut texts, mut slices, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        let mut live_bytes = 0;
        for step in steps {
            match step {
                Step::Layout { size, align_log2 } => {
                    let layout = Layout::from_size_align(size.into(), 1 << (align_log2 % 9))
                        .expect("a small layout");
                    let block = arena.alloc_layout(layout);
                    assert_eq!(block.addr().get() % layout.align(), 0);
                    // SAFETY: the block has this size and is nobody else's.
                    unsafe { block.write_bytes(0xA5, layout.size()) };
                    live_bytes += layout.size();
                }
                Step::Text(text) => {
                    live_bytes += text.len();
                    texts.push((&*arena.alloc_str(&text), text));
                }
                Step::Slice(slice) => {
                    live_bytes += size_of_val(&slice[..]);
                    slices.push((&*arena.alloc_slice_copy(&slice), slice));
                }
                Step::Byte(value) => boxes.push(Boxed::Byte(arena.alloc_box(value), value)),
                Step::Word(value) => boxes.push(Boxed::Word(arena.alloc_box(value), value)),
                Step::Five(value) => boxes.push(Boxed::Five(arena.alloc_box([value; 5]), value)),
                Step::Large(value) => {
                    let content = (alive.clone(), [value; 300]);
                    boxes.push(Boxed::Large(arena.alloc_box(content), value));
                }
                Step::Huge(value) => {
                    boxes.push(Boxed::Huge(arena.alloc_box([value; 40_000]), value));
                }
                Step::DropBox(pick) if !boxes.is_empty() => {
                    let gone = boxes.swap_remove(pick as usize % boxes.len());
                    gone.check();
                }
                Step::IntoInner(pick) if !boxes.is_empty() => {
                    match boxes.swap_remove(pick as usize % boxes.len()) {
                        Boxed::Word(value, expected) => {
                            assert_eq!(ArenaBox::into_inner(value), expected);
                        }
                        other => boxes.push(other),
                    }
                }
                Step::Owned(value) => assert_eq!(owned.alloc((alive.clone(), value)).1, value),
                _ => {}
            }
            let stats = arena.stats();
            let in_boxes: usize = boxes.iter().map(Boxed::bytes).sum();
            assert_eq!(stats.live_bytes, live_bytes + in_boxes);
            assert_eq!(
                stats.chunk_bytes,
                stats.live_bytes + stats.waste_bytes() + stats.room_bytes
            );
        }
        boxes.iter().for_each(Boxed::check);
        assert!(texts.iter().all(|(kept, text)| kept == text));
        assert!(slices.iter().all(|(kept, slice)| kept == slice));
        let large = boxes.iter().filter(|value| matches!(value, Boxed::Large(..))).count();
        assert_eq!(Rc::strong_count(&alive), 1 + large + owned.pending_drops());
        drop(boxes);
        arena.reset();
        owned.reset();
        assert_eq!(Rc::strong_count(&alive), 1);
    }
});
