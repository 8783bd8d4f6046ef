//! Generated functions that allocate, and keep what they allocated. Apart from the
//! program, so that a change of the allocator does not build them anew.

#![allow(dead_code, reason = "debug information is written for what is not read, too")]

use std::any::Any;
use std::hint::black_box;

include!(concat!(env!("OUT_DIR"), "/functions.rs"));

/// What the functions allocated.
#[derive(Default)]
pub struct Held(Vec<Box<dyn Any>>);

impl Held {
    fn push<T: Any>(&mut self, value: T) {
        self.0.push(Box::new(value));
    }
}
