//! The order of keys: letters after everything else, and runs of digits by their number.

use std::cmp::Ordering;

use super::tree::Node;

type Pair<'v> = (&'v str, Node<'v>);

/// Puts the pairs of a map in the order in which Helm's library writes them.
pub(super) fn sort(items: &mut Vec<Pair<'_>>) {
    // The order is not total on odd keys; a plain first pass makes the result independent of where they came from.
    items.sort_unstable_by(|a, b| a.0.cmp(b.0));
    // Of letters alone the two orders are one.
    let letters = |item: &Pair<'_>| item.0.bytes().all(|c| c.is_ascii_alphabetic());
    if !items.iter().all(letters) {
        merge_sort(items);
    }
}

/// A merge sort, because the standard one may refuse an order that is not total.
fn merge_sort<'v>(items: &mut Vec<Pair<'v>>) {
    if items.len() < 2 {
        return;
    }
    let mut right = items.split_off(items.len() / 2);
    merge_sort(items);
    merge_sort(&mut right);
    let mut merged = Vec::with_capacity(items.len() + right.len());
    let (mut left, mut right) = (items.drain(..).peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if natural(b.0, a.0) == Ordering::Less {
            right.next()
        } else {
            left.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    *items = merged;
}

fn natural(a: &str, b: &str) -> Ordering {
    let differs = |((at, x), y): ((usize, char), char)| (x != y).then_some((at, x, y));
    // Up to the first difference the texts are the same, so one offset is a boundary in both.
    let Some((at, x, y)) = a.char_indices().zip(b.chars()).find_map(differs) else {
        return a.len().cmp(&b.len());
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Inside a number that has begun already, a longer run of digits is the larger number.
    let begun = (x == '0' || y == '0')
        && a[..at]
            .chars()
            .rev()
            .take_while(|c| c.is_numeric())
            .any(|c| c != '0');
    let (m, end_m) = run(&a[at..], begun);
    let (n, end_n) = run(&b[at..], begun);
    m.cmp(&n).then(end_m.cmp(&end_n)).then(x.cmp(&y))
}

fn run(text: &str, begun: bool) -> (i64, usize) {
    let digits = text.chars().take_while(|c| c.is_numeric());
    let add = |(number, length): (i64, usize), c: char| {
        let digit = i64::from(c as u32) - i64::from('0' as u32);
        (number.wrapping_mul(10).wrapping_add(digit), length + 1)
    };
    digits.fold((i64::from(begun), 0), add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_natural_order() {
        let mut keys = vec![
            "b", "a2", "a10", "a", "_x", "A", "1", "10", "9", "a02", "a-b", "a.b",
        ];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(
            keys,
            [
                "_x", "1", "9", "10", "A", "a", "a-b", "a.b", "a2", "a02", "a10", "b"
            ]
        );
    }
}
