//! Operations on an arena, against a model: values keep what was written to them, blocks do not
//! overlap, drops happen once, and all bytes add up.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spanalloc::arena::{Arena, ArenaBox, DropArena};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::slice;

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

    fn place(&self) -> (usize, usize) {
        match self {
            Boxed::Byte(value, _) => place(&**value),
            Boxed::Word(value, _) => place(&**value),
            Boxed::Five(value, _) => place(&**value),
            Boxed::Large(value, _) => place(&**value),
            Boxed::Huge(value, _) => place(&**value),
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

/// Where what is live lies: the first byte of each, and the first behind it.
#[derive(Default)]
struct Places(BTreeMap<usize, usize>);

impl Places {
    /// Dies if it lies where something else is.
    fn enter(&mut self, (start, bytes): (usize, usize)) {
        let end = start + bytes;
        if bytes > 0 {
            let before = self.0.range(..end).next_back();
            assert!(before.is_none_or(|(_, other)| *other <= start), "{start:x}: handed out twice");
            self.0.insert(start, end);
        }
    }

    fn leave(&mut self, (start, bytes): (usize, usize)) {
        assert_eq!(self.0.remove(&start), Some(start + bytes));
    }
}

fn place<T: ?Sized>(value: &T) -> (usize, usize) {
    (std::ptr::from_ref(value).addr(), size_of_val(value))
}

/// The bytes of a block that has this number.
fn bytes_of(id: u64, count: usize) -> impl Iterator<Item = u8> {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes().into_iter().cycle().take(count)
}

fuzz_target!(|rounds: Vec<Vec<Step>>| {
    let alive = Rc::new(());
    let (mut arena, mut owned) = (Arena::new(), DropArena::new());
    for steps in rounds {
        let (mut texts, mut slices, mut boxes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut blocks, mut places, mut live_bytes) = (Vec::new(), Places::default(), 0);
        for step in steps {
            let boxes_before = boxes.len();
            match step {
                Step::Layout { size, align_log2 } => {
                    let layout = Layout::from_size_align(size.into(), 1 << (align_log2 % 9))
                        .expect("a small layout");
                    let block = arena.alloc_layout(layout);
                    assert_eq!(block.addr().get() % layout.align(), 0);
                    // SAFETY: the block has this size and is nobody else's.
                    let bytes = unsafe { slice::from_raw_parts_mut(block.as_ptr(), layout.size()) };
                    let id = blocks.len() as u64 + 1;
                    bytes.iter_mut().zip(bytes_of(id, layout.size())).for_each(|(to, of)| *to = of);
                    places.enter(place(&*bytes));
                    blocks.push((&*bytes, id));
                    live_bytes += layout.size();
                }
                Step::Text(text) => {
                    live_bytes += text.len();
                    texts.push((&*arena.alloc_str(&text), text));
                    places.enter(texts.last().map_or((0, 0), |(kept, _)| place(*kept)));
                }
                Step::Slice(slice) => {
                    live_bytes += size_of_val(&slice[..]);
                    slices.push((&*arena.alloc_slice_copy(&slice), slice));
                    places.enter(slices.last().map_or((0, 0), |(kept, _)| place(*kept)));
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
                    places.leave(gone.place());
                }
                Step::IntoInner(pick) if !boxes.is_empty() => {
                    match boxes.swap_remove(pick as usize % boxes.len()) {
                        Boxed::Word(value, expected) => {
                            places.leave(place(&*value));
                            assert_eq!(ArenaBox::into_inner(value), expected);
                        }
                        other => boxes.push(other),
                    }
                }
                Step::Owned(value) => assert_eq!(owned.alloc((alive.clone(), value)).1, value),
                _ => {}
            }
            if boxes.len() > boxes_before {
                places.enter(boxes[boxes_before].place());
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
        for (kept, id) in &blocks {
            assert!(kept.iter().copied().eq(bytes_of(*id, kept.len())), "a block was overwritten");
        }
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
