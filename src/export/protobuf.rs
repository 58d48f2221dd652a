//! Protocol Buffers, as far as an ONNX file needs them: messages of whole numbers, texts, bytes and other messages
//! (protobuf.dev, "Encoding"). Fields are written in the order of the calls.

/// A message in its binary form.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

/// How a field is encoded: the lower three bits of its tag.
const VARINT: u64 = 0;
const DELIMITED: u64 = 2;

impl Message {
    /// With a whole number from 0 in a field.
    pub fn number(mut self, field: u64, number: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(number);
        self
    }

    /// With bytes in a field.
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// With a text in a field.
    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// With another message in a field.
    pub fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// With several messages in a repeated field.
    pub fn messages(self, field: u64, messages: impl IntoIterator<Item = Self>) -> Self {
        messages.into_iter().fold(self, |to, message| to.message(field, &message))
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Seven bits a byte, the lowest first; the eighth says that another byte follows.
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's specification.
    #[test]
    fn fields_are_encoded_as_specified() {
        assert_eq!(Message::default().number(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing").into_bytes();
        assert_eq!(text, [&[0x12, 0x07], &b"testing"[..]].concat());
        let outer = Message::default().message(3, &Message::default().number(1, 150));
        assert_eq!(outer.into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        // A field above 15 takes a tag of two bytes.
        assert_eq!(Message::default().number(20, 7).into_bytes(), [0xa0, 0x01, 0x07]);
    }
}
