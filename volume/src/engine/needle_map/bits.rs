//! Numbers of a fixed width, packed without gaps into 64-bit words.
//!
//! Number *n* of a run that starts at bit *s* lies at bit *s + n × width*, lowest bit first, and may
//! straddle two words. The width is 0 to 64; a run of width 0 takes no room and reads as zeros.

/// The bits that `value` needs.
pub(super) fn width_of(value: u64) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
    let width = (u64::BITS - value.leading_zeros()) as u8;
    width
}

/// The highest number of a width.
pub(super) fn highest(width: u8) -> u64 {
    u64::MAX.checked_shr(u64::BITS - u32::from(width)).unwrap_or(0)
}

/// The number at `bit`. Bits behind the last word read as 0.
#[inline]
pub(super) fn read(words: &[u64], bit: usize, width: u8) -> u64 {
    let (word, shift) = (bit / 64, bit % 64);
    let low = words.get(word).copied().unwrap_or(0) >> shift;
    // Shifted in two steps: by 64 at once is no shift in Rust.
    let high = (words.get(word + 1).copied().unwrap_or(0) << 1) << (63 - shift);
    (low | high) & highest(width)
}

/// Writes over the number at `bit`, which lies within `words`; `value` fits into the width.
pub(super) fn overwrite(words: &mut [u64], bit: usize, width: u8, value: u64) {
    if width == 0 {
        return;
    }
    let (word, shift, mask) = (bit / 64, bit % 64, highest(width));
    words[word] = words[word] & !(mask << shift) | value << shift;
    if shift + usize::from(width) > 64 {
        let done = 64 - shift;
        words[word + 1] = words[word + 1] & !(mask >> done) | value >> done;
    }
}

/// Packs numbers one behind the other.
#[derive(Debug)]
pub(super) struct Packer {
    words: Vec<u64>,
    /// The word that is being filled, and how many of its bits are.
    open: u64,
    filled: usize,
}

impl Packer {
    /// A packer of `bits` bits in all.
    pub(super) fn new(bits: usize) -> Self {
        Self { words: Vec::with_capacity(bits.div_ceil(64)), open: 0, filled: 0 }
    }

    /// Adds a number, which fits into the width.
    #[inline]
    pub(super) fn push(&mut self, value: u64, width: u8) {
        let width = usize::from(width);
        self.open |= value.unbounded_shl(self.filled_bits());
        self.filled += width;
        if self.filled >= 64 {
            self.words.push(self.open);
            self.filled -= 64;
            #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
            let done = (width - self.filled) as u32;
            self.open = value.unbounded_shr(done);
        }
    }

    /// Adds the `count` bits of `words` from `bit` on.
    pub(super) fn copy(&mut self, words: &[u64], mut bit: usize, count: usize) {
        let end = bit + count;
        if self.filled == 0 && bit.is_multiple_of(64) {
            self.words.extend_from_slice(&words[bit / 64..end / 64]);
            bit = bit.max(end / 64 * 64);
        }
        while bit + 64 <= end {
            self.push(read(words, bit, 64), 64);
            bit += 64;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 64")]
        let left = (end - bit) as u8;
        self.push(read(words, bit, left), left);
    }

    /// The words, without any room to spare.
    pub(super) fn finish(mut self) -> Box<[u64]> {
        if self.filled > 0 {
            self.words.push(self.open);
        }
        self.words.into_boxed_slice()
    }

    fn filled_bits(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
        let filled = self.filled as u32;
        filled
    }
}
