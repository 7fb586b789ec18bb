//! Which characters in the words of others would deceive whoever reads them.

/// Whether a character moves the cursor, ends a line for some reader, or turns the direction of what follows, so that a line
/// shows something else than it says.
pub(crate) fn is_deceptive(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_ends_a_line_is_deceptive_and_letters_are_not() {
        let deceptive =
            ('\u{2028}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain(['\n', '\u{1b}', '\u{7f}', '\u{85}']);
        assert!(deceptive.into_iter().all(is_deceptive));
        // The last two are letters that are written from right to left.
        assert!(
            !['a', ' ', 'ä', '\u{2027}', '\u{202f}', '\u{2065}', '\u{206a}', 'א', 'ع'].into_iter().any(is_deceptive)
        );
    }
}
