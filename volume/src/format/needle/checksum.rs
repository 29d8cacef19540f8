//! The sums of a record: CRC-32C of the data, and what the padding holds of the rest.
//!
//! The padding of our own records is the first byte CRC-8/AUTOSAR (polynomial 0x2F, initial value
//! and final xor 0xFF), then up to four bytes CRC-32C, least significant first, then zeros; both
//! sums are over the record without data and padding. The CRC-8 alone finds every single flipped
//! bit there; each byte of the CRC-32C that fits makes other damage 256 times less likely to pass.

/// The longest padding, in bytes.
pub(super) const MAX_PADDING_LEN: usize = 8;

const CRC8_POLYNOMIAL: u8 = 0x2f;
const CRC8_TABLE: [u8; 256] = crc8_table();

/// How long ago a rotation and this sum were added to checksums matters to nobody but old files.
const LEGACY_SUM: u32 = 0xa282_ead8;
const LEGACY_ROTATION: u32 = 15;

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler, for indices below 256"
)]
const fn crc8_table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x80 == 0 { 0 } else { CRC8_POLYNOMIAL };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// CRC-8/AUTOSAR over two pieces, one after the other.
fn crc8(first: &[u8], second: &[u8]) -> u8 {
    let step = |crc: u8, byte: &u8| {
        #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
        CRC8_TABLE[usize::from(crc ^ byte)]
    };
    !second.iter().fold(first.iter().fold(0xff, step), step)
}

/// The padding of a record of ours; the first bytes of it, as many as the padding is long, are
/// what belongs there. `before` and `after` are the record's bytes around the data.
pub(super) fn padding(before: &[u8], after: &[u8]) -> [u8; MAX_PADDING_LEN] {
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), after);
    let [b0, b1, b2, b3] = sum.to_le_bytes();
    [crc8(before, after), b0, b1, b2, b3, 0, 0, 0]
}

/// What old files hold in place of the CRC-32C `crc`.
pub(super) const fn legacy(crc: u32) -> u32 {
    crc.rotate_right(LEGACY_ROTATION).wrapping_add(LEGACY_SUM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_have_the_check_values_of_their_algorithms() {
        assert_eq!(crc8(b"1234", b"56789"), 0xdf);
        assert_eq!(padding(b"12345", b"6789"), [0xdf, 0x83, 0x92, 0x06, 0xe3, 0, 0, 0]);
        assert_eq!(legacy(0x0001_0000), 0xa282_eada);
    }
}
