//! A protobuf message read field by field where it lies, without copying anything out of it.

use std::str;

/// Why bytes are not the message that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within a field.
    #[error("the message is cut off")]
    CutOff,
    /// A number of more than 64 bits.
    #[error("a number in the message is too long")]
    Number,
    /// A field with number 0, or of a wire type that is none.
    #[error("a field of the message has no number or no type")]
    Key,
    /// A field whose wire type is not its column's.
    #[error("a field of the message is of another type than its column")]
    Type,
    /// Text that is not UTF-8.
    #[error("a text in the message is not UTF-8")]
    Text,
}

/// What stands behind a field's number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, a message, or bytes.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// The fields of a message, first to last.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field's number and value; `None`: that was the last.
    ///
    /// # Errors
    /// What follows is no field. Groups, which nobody writes any more, are none.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::Key)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed::CutOff)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::CutOff)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed::Key),
        };
        if key >> 3 == 0 { Err(Malformed::Key) } else { Ok(Some((key >> 3, value))) }
    }

    /// Most numbers, and nearly all keys and lengths, have one byte.
    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.0 {
            [byte @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (at, byte) in self.0.iter().enumerate() {
            // The tenth byte holds the last bit.
            if at == 9 && *byte > 1 {
                return Err(Malformed::Number);
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(Malformed::CutOff)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed::CutOff)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

impl<'a> Value<'a> {
    /// Text.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn text(self) -> Result<&'a str, Malformed> {
        str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// A message, or bytes.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed::Type),
        }
    }

    /// A number of 64 bits, signed.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn int64(self) -> Result<i64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number.cast_signed()),
            Self::Bytes(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed::Type),
        }
    }

    /// A number of 32 bits, signed; of a longer one its low bits, as protobuf wants it.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "protobuf says so")]
    pub fn int32(self) -> Result<i32, Malformed> {
        Ok(self.int64()? as i32)
    }

    /// True or false.
    ///
    /// # Errors
    /// It is neither.
    #[inline]
    pub fn boolean(self) -> Result<bool, Malformed> {
        Ok(self.int64()? != 0)
    }

    /// A floating-point number of 64 bits.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn float64(self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed::Type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_field_is_refused() {
        let next = |bytes: &'static [u8]| Fields::of(bytes).next_field();
        assert_eq!(next(&[]), Ok(None));
        assert_eq!(next(&[0x08, 0x96, 0x01]), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(next(&[0x12, 2, b'o', b'k']), Ok(Some((2, Value::Bytes(b"ok")))));
        assert_eq!(next(&[0x12, 3, b'o', b'k']), Err(Malformed::CutOff));
        assert_eq!(next(&[0x08, 0x96]), Err(Malformed::CutOff));
        assert_eq!(next(&[0x09, 1, 2, 3]), Err(Malformed::CutOff));
        assert_eq!(next(&[0x00, 0x01]), Err(Malformed::Key));
        assert_eq!(next(&[0x0b]), Err(Malformed::Key));
        assert_eq!(
            next(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(Malformed::Number)
        );
        let most = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Fields::of(&most).next_field(), Ok(Some((1, Value::Varint(u64::MAX)))));
        assert_eq!(Value::Bytes(&[0xff]).text(), Err(Malformed::Text));
        assert_eq!(Value::Varint(1).text(), Err(Malformed::Type));
    }
}
