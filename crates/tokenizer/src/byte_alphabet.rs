//! GPT-2's alphabet: one printable character for each byte.
//!
//! The bytes that are printable in Latin-1 stand for themselves, the others are
//! U+0100 and up in order. Source: `bytes_to_unicode` in OpenAI's `encoder.py`.

/// The byte a character stands for.
pub(crate) fn byte(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    Some(byte as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let characters: Vec<char> = ('\0'..='\u{1000}').filter(|c| byte(*c).is_some()).collect();
        let mut bytes: Vec<u8> = characters.iter().filter_map(|c| byte(*c)).collect();
        assert_eq!(characters.len(), 256);
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn the_space_is_g_with_a_dot_and_the_newline_c_with_a_dot() {
        assert_eq!(byte('Ġ'), Some(b' '));
        assert_eq!(byte('Ċ'), Some(b'\n'));
        assert_eq!(byte('ł'), Some(0xA0));
        assert_eq!(byte('Ń'), Some(0xAD));
        assert_eq!(byte(' '), None);
    }
}
