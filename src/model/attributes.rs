//! Attributes of spans, events, links and resources.
//!
//! Spans that come together repeat most of their attributes: these stand once in a table that the spans share, and a span holds
//! where its list of places in the table begins. A list made alone has its attributes itself. Readers see no difference.
//! Invariant: a list in a table points at attributes of that table only.

use std::ops::Index;
use std::sync::Arc;

use super::span::AttributeValue;

/// A name and its value.
pub type Attribute = (Arc<str>, AttributeValue);

/// Attributes in the order they came.
#[derive(Clone)]
pub struct Attributes(List);

#[derive(Clone)]
enum List {
    Own(Vec<Attribute>),
    Shared { table: Arc<AttributeTable>, range: ListRange, memory_bytes: u32 },
}

/// Attributes of many spans, each once, and which of them each span has.
#[derive(Debug, Default)]
pub struct AttributeTable {
    attributes: Vec<Attribute>,
    /// Places in `attributes`, the lists of all spans one after the other.
    places: Vec<u32>,
}

/// A list in a table that is being made.
#[derive(Clone, Copy, Debug)]
pub struct ListRange {
    first: u32,
    count: u32,
    wire_bytes: u32,
}

impl AttributeTable {
    /// An empty one, with room.
    pub fn with_capacity(attributes: usize, places: usize) -> Self {
        Self { attributes: Vec::with_capacity(attributes), places: Vec::with_capacity(places) }
    }

    /// Adds an attribute and says where it stands.
    pub fn add(&mut self, attribute: Attribute) -> u32 {
        self.attributes.push(attribute);
        u32::try_from(self.attributes.len() - 1).expect("invariant: a request has fewer than 2³² bytes")
    }

    /// The attribute at a place that [`Self::add`] gave.
    pub fn get(&self, place: u32) -> &Attribute {
        &self.attributes[place as usize]
    }

    /// How many attributes it has.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// How many attributes all lists have.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Begins a list: what is [put](Self::put) from here on is in it.
    pub fn begin_list(&self) -> ListRange {
        let first = u32::try_from(self.places.len()).expect("invariant: a request has fewer than 2³² bytes");
        ListRange { first, count: 0, wire_bytes: 0 }
    }

    /// Appends an attribute to the list that was begun last; `wire_bytes` are those of [`wire_bytes`].
    pub fn put(&mut self, list: &mut ListRange, place: u32, wire_bytes: u32) {
        self.places.push(place);
        list.count += 1;
        list.wire_bytes = list.wire_bytes.saturating_add(wire_bytes);
    }

    /// Leaves the list that was begun last out.
    pub fn drop_list(&mut self, list: ListRange) {
        self.places.truncate(list.first as usize);
    }

    /// The lists, now that the table is whole; each holds its part of what the table takes.
    pub fn into_lists(self, lists: Vec<ListRange>) -> impl Iterator<Item = Attributes> {
        let memory_bytes = self.memory_bytes();
        let all = lists.iter().map(|list| list.len()).sum::<usize>().max(1);
        let table = Arc::new(self);
        lists.into_iter().map(move |list| list.of(&table, (memory_bytes * list.len()).div_ceil(all)))
    }

    /// About how much memory it holds.
    fn memory_bytes(&self) -> usize {
        let texts = self.attributes.iter().map(wire_bytes).sum::<usize>();
        texts + self.attributes.capacity() * size_of::<Attribute>() + self.places.capacity() * size_of::<u32>()
    }
}

impl ListRange {
    /// How many attributes it has.
    pub fn len(self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The attributes, once the table is whole; `memory_bytes` is the list's part of the table.
    fn of(self, table: &Arc<AttributeTable>, memory_bytes: usize) -> Attributes {
        let memory_bytes = u32::try_from(memory_bytes).unwrap_or(u32::MAX);
        match self.count {
            0 => Attributes::new(),
            _ => Attributes(List::Shared { table: Arc::clone(table), range: self, memory_bytes }),
        }
    }
}

impl Attributes {
    /// None.
    pub const fn new() -> Self {
        Self(List::Own(Vec::new()))
    }

    /// None, with room for as many.
    pub fn with_capacity(count: usize) -> Self {
        Self(List::Own(Vec::with_capacity(count)))
    }

    /// Adds one at the end.
    pub fn push(&mut self, attribute: Attribute) {
        self.extend([attribute]);
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.0 {
            List::Own(attributes) => attributes.len(),
            List::Shared { range, .. } => range.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            List::Own(attributes) => Iter { attributes, places: None, at: 0 },
            List::Shared { table, range, .. } => {
                Iter { attributes: &table.attributes, places: Some(places(table, *range)), at: 0 }
            }
        }
    }

    /// The table that others share, and the places of these attributes in it; `None` for a list made alone.
    pub fn shared(&self) -> Option<(&Arc<AttributeTable>, &[u32])> {
        match &self.0 {
            List::Own(_) => None,
            List::Shared { table, range, .. } => Some((table, places(table, *range))),
        }
    }

    /// Bytes as OTLP protobuf: tags and lengths of each pair, its key, its value's wrapper and value.
    pub fn wire_bytes(&self) -> usize {
        match &self.0 {
            List::Own(attributes) => attributes.iter().map(wire_bytes).sum(),
            List::Shared { range, .. } => range.wire_bytes as usize,
        }
    }

    /// About how much memory they hold; of a table, their part.
    pub fn memory_bytes(&self) -> usize {
        match &self.0 {
            List::Own(attributes) => self.wire_bytes() + attributes.capacity() * size_of::<Attribute>(),
            List::Shared { memory_bytes, .. } => *memory_bytes as usize,
        }
    }
}

fn places(table: &AttributeTable, range: ListRange) -> &[u32] {
    &table.places[range.first as usize..(range.first + range.count) as usize]
}

/// Bytes of one attribute as OTLP protobuf.
pub fn wire_bytes((name, value): &Attribute) -> usize {
    let value_bytes = match value {
        AttributeValue::String(text) | AttributeValue::Json(text) => 2 + text.len(),
        AttributeValue::Bool(_) => 2,
        AttributeValue::Int(_) => 4,
        AttributeValue::Double(_) => 9,
    };
    6 + name.len() + value_bytes
}

impl Default for Attributes {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl From<Vec<Attribute>> for Attributes {
    fn from(attributes: Vec<Attribute>) -> Self {
        Self(List::Own(attributes))
    }
}

impl FromIterator<Attribute> for Attributes {
    fn from_iter<I: IntoIterator<Item = Attribute>>(attributes: I) -> Self {
        Self(List::Own(attributes.into_iter().collect()))
    }
}

impl Extend<Attribute> for Attributes {
    fn extend<I: IntoIterator<Item = Attribute>>(&mut self, more: I) {
        if let List::Shared { .. } = self.0 {
            self.0 = List::Own(self.iter().cloned().collect());
        }
        if let List::Own(attributes) = &mut self.0 {
            attributes.extend(more);
        }
    }
}

impl Index<usize> for Attributes {
    type Output = Attribute;

    fn index(&self, at: usize) -> &Attribute {
        match &self.0 {
            List::Own(attributes) => &attributes[at],
            List::Shared { table, range, .. } => table.get(places(table, *range)[at]),
        }
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = &'a Attribute;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The attributes of a list.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    attributes: &'a [Attribute],
    /// Which of them; `None`: all.
    places: Option<&'a [u32]>,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Attribute;

    fn next(&mut self) -> Option<&'a Attribute> {
        let at = self.at;
        self.at += 1;
        match self.places {
            None => self.attributes.get(at),
            Some(places) => self.attributes.get(*places.get(at)? as usize),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.places.map_or(self.attributes.len(), <[u32]>::len).saturating_sub(self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, number: i64) -> Attribute {
        (name.into(), AttributeValue::Int(number))
    }

    #[test]
    fn a_list_in_a_table_reads_as_one_made_alone() {
        let mut table = AttributeTable::default();
        let (a, b) = (table.add(attribute("a", 1)), table.add(attribute("bb", 2)));
        let lists = [vec![b, a], vec![], vec![a], vec![b, b]].map(|places| {
            let mut list = table.begin_list();
            for place in places {
                let bytes = wire_bytes(table.get(place)) as u32;
                table.put(&mut list, place, bytes);
            }
            list
        });
        let mut dropped = table.begin_list();
        table.put(&mut dropped, a, 1);
        table.drop_list(dropped);
        let table = Arc::new(table);
        assert_eq!((table.len(), table.places.len()), (2, 5));
        let alone =
            [vec![attribute("bb", 2), attribute("a", 1)], vec![], vec![attribute("a", 1)], vec![attribute("bb", 2); 2]];
        for (list, alone) in lists.into_iter().zip(alone) {
            let (shared, alone) = (list.of(&table, 7), Attributes::from(alone));
            assert_eq!(shared, alone);
            assert_eq!((shared.len(), shared.wire_bytes()), (alone.len(), alone.wire_bytes()));
            assert_eq!(shared.shared().is_some(), !alone.is_empty());
            assert_eq!(format!("{shared:?}"), format!("{alone:?}"));
            for at in 0..alone.len() {
                assert_eq!(shared[at], alone[at]);
            }
            let (mut shared, mut alone) = (shared, alone);
            for list in [&mut shared, &mut alone] {
                list.push(attribute("c", 3));
            }
            assert_eq!(shared, alone);
            assert_eq!(shared.iter().len(), alone.len());
        }
    }
}
