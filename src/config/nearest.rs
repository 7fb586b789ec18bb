//! Which known key a misspelt one probably means.

/// The known key that `key` probably means: at most a third of its letters differ.
pub(crate) fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let letters: Vec<char> = key.chars().take(KEY_CHARS_COMPARED).flat_map(char::to_lowercase).collect();
    let distance_max = (letters.len() / 3).clamp(1, 3);
    let ranked = known.iter().map(|candidate| (edit_distance(&letters, candidate), *candidate));
    ranked.filter(|(distance, _)| *distance <= distance_max).min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `letters` out of `candidate`.
fn edit_distance(letters: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let width = candidate.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, letter) in letters.iter().enumerate() {
        let mut current = vec![row + 1; width];
        for column in 1..width {
            let same = *letter == candidate[column - 1];
            let replaced = last[column - 1] + usize::from(!same);
            current[column] = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped =
                row > 0 && column > 1 && *letter == candidate[column - 2] && letters[row - 1] == candidate[column - 1];
            if swapped {
                current[column] = current[column].min(before_last[column - 2] + 1);
            }
        }
        before_last = last;
        last = current;
    }
    last.last().copied().unwrap_or(usize::MAX)
}

/// No known key is longer; what follows cannot make a key more similar.
const KEY_CHARS_COMPARED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_a_swap_as_one() {
        let letters: Vec<char> = "naem".chars().collect();
        assert_eq!(edit_distance(&letters, "name"), 1);
        assert_eq!(edit_distance(&[], "abc"), 3);
    }
}
