//! Things worth telling that do not stop a message; bounded, whatever the file holds.

/// A list of remarks that stops growing at [`Remarks::MOST`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    list: Vec<String>,
    left_out: usize,
}

impl Remarks {
    /// So many are kept; the rest is counted.
    pub const MOST: usize = 20;

    /// Adds one; the words are only made when there is room.
    pub fn add(&mut self, words: impl FnOnce() -> String) {
        if self.list.len() < Self::MOST {
            self.list.push(words());
        } else {
            self.left_out += 1;
        }
    }

    /// All of them, with a last one that counts what was left out.
    pub fn into_vec(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.list
                .push(format!("{} more remarks are left out", self.left_out));
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded() {
        let mut remarks = Remarks::default();
        for n in 0..1000 {
            remarks.add(|| n.to_string());
        }
        let list = remarks.into_vec();
        assert_eq!(list.len(), Remarks::MOST + 1);
        assert_eq!(list[Remarks::MOST], "980 more remarks are left out");
    }
}
