//! Writes protocol buffers: the wire format, without a schema.
//!
//! A message is a sequence of fields; a field is a key, `number << 3 | type`, and
//! a value: a variable-length integer (type 0), or a length and that many bytes
//! (type 2), which hold a text, a message or a packed list of integers. An integer
//! of 0 and an empty text are what a reader assumes of a field that is missing, so
//! they are left out.

const INTEGER: u64 = 0;
const BYTES: u64 = 2;

/// A message being written.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn integer(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.integer(field << 3 | kind);
    }

    pub(super) fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, INTEGER);
            self.integer(value);
        }
    }

    pub(super) fn flag(&mut self, field: u64, value: bool) {
        self.number(field, value.into());
    }

    /// Also an empty text: one of a list's elements may be.
    pub(super) fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    pub(super) fn packed(&mut self, field: u64, values: &[u64]) {
        let mut inner = Message::default();
        values.iter().for_each(|value| inner.integer(*value));
        self.bytes(field, &inner.0);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, BYTES);
        self.integer(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        message.packed(4, &[3, 270, 86_942]);
        message.message(3, |inner| inner.number(1, 150));
        message.number(5, 0);
        message.flag(6, true);
        let expected = [
            &[0x08, 0x96, 0x01, 0x12, 0x07][..],
            b"testing",
            &[0x22, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05],
            &[0x1a, 0x03, 0x08, 0x96, 0x01, 0x30, 0x01],
        ];
        assert_eq!(message.as_bytes(), expected.concat());
    }
}
