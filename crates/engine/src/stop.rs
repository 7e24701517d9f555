//! Stop strings over streamed text.

/// What became of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// No stop string yet; this much can no longer become part of one.
    Not(String),
    /// A stop string is complete: the text before it, and the string.
    By(String, String),
}

/// Looks for stop strings in text that comes in pieces, and holds back what may
/// be the beginning of one. What is found does not depend on how the text was
/// cut: the stop string that is complete first wins, the longest of those that
/// end at the same place.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// A matcher for `stops`, none of them empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        StopMatcher { stops, held: String::new() }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Stopped {
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            // A search reads the whole of what it looks for, which may be megabytes.
            .filter(|stop| stop.len() <= self.held.len())
            .filter_map(|stop| self.held.find(stop.as_str()).map(|start| (start, stop)))
            .min_by_key(|(start, stop)| (start + stop.len(), *start));
        if let Some((start, stop)) = found {
            let stop = stop.clone();
            self.held.truncate(start);
            return Stopped::By(std::mem::take(&mut self.held), stop);
        }
        let safe = self.held.len() - self.longest_beginning();
        let held = self.held.split_off(safe);
        Stopped::Not(std::mem::replace(&mut self.held, held))
    }

    /// The text that is held back, when no more will come.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that a stop string begins with.
    fn longest_beginning(&self) -> usize {
        let beginning = |stop: &String| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest)
                .rev()
                .find(|n| self.held.as_bytes().ends_with(&stop.as_bytes()[..*n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let mut text = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Stopped::Not(safe) => text.push_str(&safe),
                Stopped::By(before, stop) => return (text + &before, Some(stop)),
            }
        }
        (text + &matcher.finish(), None)
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back_until_it_cannot() {
        let mut matcher = StopMatcher::new(vec!["END".into()]);
        assert_eq!(matcher.push("one E"), Stopped::Not("one ".into()));
        assert_eq!(matcher.push("N"), Stopped::Not(String::new()));
        assert_eq!(matcher.push("emy"), Stopped::Not("ENemy".into()));
        assert_eq!(matcher.push("E"), Stopped::Not(String::new()));
        assert_eq!(matcher.finish(), "E");
    }

    #[test]
    fn the_first_complete_stop_string_wins_and_the_longest_of_equals() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".into(), Some("bc".into())));
        assert_eq!(run(&["c", "abc"], &["xabc"]), ("x".into(), Some("abc".into())));
    }

    #[test]
    fn a_stop_string_may_begin_in_a_false_start_of_itself() {
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some("aab".into())));
    }

    /// First end of any stop string in the whole text, by looking at every prefix.
    fn naive(stops: &[&str], text: &str) -> (String, Option<String>) {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(**stop));
            if let Some(stop) = ending.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].into(), Some(stop.to_string()));
            }
        }
        (text.into(), None)
    }

    proptest! {
        #[test]
        fn the_answer_does_not_depend_on_how_the_text_is_cut(
            pieces in proptest::collection::vec("[aé€🐶]{0,4}", 0..12),
            stops in proptest::collection::vec("[aé€🐶]{1,4}", 0..4),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), naive(&stops, &pieces.concat()));
        }
    }
}
