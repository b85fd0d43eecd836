//! What notices that rows have arrived otherwise than they left: a sum over all rows of a table, in whatever order they come.

use sha2::{Digest as _, Sha256};

use crate::store::value::Cell;

/// Rows that have been seen: how many, and the sum of their hashes. Two tables with the same sum have the same rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: u64,
    sum: u128,
}

impl Rows {
    /// Counts a row in.
    pub(super) fn add(&mut self, cells: &[Cell<'_>]) {
        let mut hash = Sha256::new();
        for cell in cells {
            let mut part = |kind: u8, bytes: &[u8]| {
                hash.update([kind]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            };
            match cell {
                Cell::Null => part(0, &[]),
                Cell::Int(number) => part(1, &number.to_be_bytes()),
                Cell::Text(text) => part(2, text.as_bytes()),
                Cell::Blob(bytes) => part(3, bytes),
            }
        }
        let hash = hash.finalize();
        let half: [u8; 16] = std::array::from_fn(|index| hash[index]);
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&[Cell<'_>]]) -> Rows {
        let mut all = Rows::default();
        for row in rows {
            all.add(row);
        }
        all
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_everything_else_does() {
        let (a, b): (&[_], &[_]) = (
            &[Cell::Text("a"), Cell::Int(1), Cell::Null],
            &[Cell::Text("b"), Cell::Int(2), Cell::Blob(b"x")],
        );
        let all = sum(&[a, b]);
        assert_eq!(sum(&[b, a]), all);
        assert_ne!(sum(&[a, a]), all);
        assert_ne!(sum(&[a]), all);
        for changed in [
            [Cell::Text("b"), Cell::Int(2), Cell::Text("x")],
            [Cell::Text("b"), Cell::Int(3), Cell::Blob(b"x")],
            [Cell::Text("b"), Cell::Null, Cell::Blob(b"x")],
            [Cell::Text("b\0"), Cell::Int(2), Cell::Blob(b"x")],
            [Cell::Int(2), Cell::Text("b"), Cell::Blob(b"x")],
        ] {
            assert_ne!(sum(&[a, &changed]), all, "{changed:?}");
        }
        // What moves from one column to the next is another row.
        assert_ne!(
            sum(&[&[Cell::Text("ab"), Cell::Text("c")]]),
            sum(&[&[Cell::Text("a"), Cell::Text("bc")]])
        );
    }
}
