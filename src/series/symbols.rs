//! Label names and values, each text kept once and counted.
//!
//! In: texts. Out: small numbers for them. Invariant: a number is reused only after everyone has released it.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;

/// Hashes texts and tables of this module.
pub(super) type Hasher = foldhash::fast::FixedState;

struct Symbol {
    text: Arc<str>,
    users: u32,
}

/// The table of texts.
#[derive(Default)]
pub(super) struct Symbols {
    symbols: Vec<Symbol>,
    free: Vec<u32>,
    table: HashTable<u32>,
    text_bytes: usize,
}

impl Symbols {
    /// The number of `text`, which the caller must release once.
    pub(super) fn acquire(&mut self, text: &str) -> u32 {
        let hash = Hasher::default().hash_one(text);
        if let Some(&id) = self.table.find(hash, |id| &*self.symbols[*id as usize].text == text) {
            self.symbols[id as usize].users += 1;
            return id;
        }
        let symbol = Symbol { text: text.into(), users: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.symbols[id as usize] = symbol;
                id
            }
            None => {
                self.symbols.push(symbol);
                (self.symbols.len() - 1) as u32
            }
        };
        self.text_bytes += text.len();
        let symbols = &self.symbols;
        self.table.insert_unique(hash, id, |id| Hasher::default().hash_one(&*symbols[*id as usize].text));
        id
    }

    /// Gives back one [`Symbols::acquire`].
    pub(super) fn release(&mut self, id: u32) {
        let symbol = &mut self.symbols[id as usize];
        symbol.users -= 1;
        if symbol.users > 0 {
            return;
        }
        let hash = Hasher::default().hash_one(&*symbol.text);
        self.text_bytes -= symbol.text.len();
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.symbols[id as usize].text = Arc::from("");
        self.free.push(id);
    }

    /// Gives back the memory of texts that nobody uses, once those are the most.
    pub(super) fn shrink(&mut self) {
        if self.free.len() <= self.symbols.len() / 2 {
            return;
        }
        while self.symbols.pop_if(|symbol| symbol.users == 0).is_some() {}
        let length = self.symbols.len();
        self.free.retain(|id| (*id as usize) < length);
        self.free.shrink_to_fit();
        self.symbols.shrink_to(length + length / 4);
        let symbols = &self.symbols;
        let hash_of = |id: &u32| Hasher::default().hash_one(&*symbols[*id as usize].text);
        self.table.shrink_to(self.table.len() * 2, hash_of);
    }

    /// The text of a number in use.
    pub(super) fn text(&self, id: u32) -> &Arc<str> {
        &self.symbols[id as usize].text
    }

    /// How many texts are in use.
    pub(super) fn len(&self) -> usize {
        self.symbols.len() - self.free.len()
    }

    /// Bytes of memory, roughly.
    pub(super) fn size_bytes(&self) -> usize {
        self.text_bytes + self.symbols.len() * (size_of::<Symbol>() + 16) + self.table.capacity() * 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_each_text_once_until_all_users_release_it() {
        let mut symbols = Symbols::default();
        let (a, b, again) = (symbols.acquire("a"), symbols.acquire("b"), symbols.acquire("a"));
        assert_eq!((a, symbols.len()), (again, 2));
        assert_ne!(a, b);
        symbols.release(a);
        assert_eq!(&**symbols.text(a), "a");
        symbols.release(a);
        assert_eq!(symbols.len(), 1);
        let c = symbols.acquire("c");
        assert_eq!((c, &**symbols.text(c), &**symbols.text(b)), (a, "c", "b"));
    }
}
