//! Handling requests: parse a head and a form, build an answer. Each request needs three buffers
//! and a list, new ones or those of a pool.

use crate::{Way, compare};
use spanalloc::pool::{Pool, Reset};
use std::fmt::Write;
use std::hint::black_box;
use std::ops::Range;

const REQUESTS: u64 = 200_000;

/// What handling one request needs.
#[derive(Default)]
struct Exchange {
    /// Where in the request the headers' names and values are.
    headers: Vec<(Range<usize>, Range<usize>)>,
    form: Vec<u8>,
    answer: String,
}

impl Reset for Exchange {
    fn reset(&mut self) {
        self.headers.reset();
        self.form.reset();
        self.answer.reset();
    }
}

pub(crate) fn run() {
    let inputs: Vec<String> = (0..64).map(request).collect();
    let pool: Pool<Exchange> = Pool::new(Exchange::default);
    let input = |number: u64| &*inputs[number as usize % inputs.len()];
    let new = Way::measure("new buffers", || {
        for number in 0..REQUESTS {
            handle_with_new_buffers(input(number));
        }
    });
    let pooled = Way::measure("pooled", || {
        for number in 0..REQUESTS {
            handle_with_pool(&pool, input(number));
        }
    });
    compare("requests", "request", REQUESTS, [new, pooled]);
    println!("{}\n", pool.stats());
}

#[inline(never)]
fn handle_with_new_buffers(request: &str) {
    let mut exchange = Exchange::default();
    exchange.handle(request);
    black_box(&exchange.answer);
}

#[inline(never)]
fn handle_with_pool(pool: &Pool<Exchange>, request: &str) {
    let mut exchange = pool.get();
    exchange.handle(request);
    black_box(&exchange.answer);
}

impl Exchange {
    fn handle(&mut self, request: &str) {
        let (head, form) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
        let mut at = 0;
        for line in head.split("\r\n") {
            if let Some(colon) = line.find(": ") {
                self.headers.push((at..at + colon, at + colon + 2..at + line.len()));
            }
            at += line.len() + 2;
        }
        decode(form, &mut self.form);
        self.answer.push_str("{\"headers\":{");
        for (name, value) in &self.headers {
            let _ =
                write!(self.answer, "{:?}:{:?},", &request[name.clone()], &request[value.clone()]);
        }
        let text = String::from_utf8_lossy(&self.form);
        let _ = write!(self.answer, "}},\"form\":{text:?}}}");
    }
}

/// Undoes the encoding of a form: `+` is a space, `%41` an A.
fn decode(form: &str, decoded: &mut Vec<u8>) {
    let mut bytes = form.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit =
                    || bytes.next().and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
                (digit() * 16 + digit()) as u8
            }
            other => other,
        });
    }
}

/// The request with this number; no two are alike in length.
fn request(number: usize) -> String {
    let mut text = format!("POST /orders/{number} HTTP/1.1\r\nHost: shop.example\r\n");
    for header in 0..4 + number % 9 {
        let _ = write!(text, "X-Trace-{header}: {}\r\n", number * 7919 + header);
    }
    text.push_str("Content-Type: application/x-www-form-urlencoded\r\n\r\n");
    for item in 0..1 + number % 17 {
        let _ = write!(text, "item{item}=a+thing+worth+%7B{number}%7D&");
    }
    text
}
