//! The attributes of a batch, each once, and their places in it.
//!
//! In: lists of attributes, most of which point into tables that their spans share. Out: the places of each list, and the
//! attributes in the order of their places. Invariant: equal attributes have one place; of a list that points into a table only
//! places are looked at that no list had before.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Ascent, Encoder, push_number};
use crate::model::attributes::{Attribute, AttributeTable};
use crate::model::span::{AttributeValue, Attributes};

/// Which attributes have a place already.
#[derive(Default)]
pub(super) struct AttributePlaces<'a> {
    by_content: HashMap<Content, u32, foldhash::fast::RandomState>,
    /// Which of `places` belongs to a table, by where it lies: the spans outlive this.
    tables: HashMap<*const AttributeTable, usize, foldhash::fast::RandomState>,
    /// For each place in a table the place in the batch, and one; zero where it is not known yet.
    places: Vec<Vec<u32>>,
    /// The table of the last list: spans of one request come together.
    last: Option<(*const AttributeTable, usize)>,
    listed: Vec<Listed<'a>>,
    /// Of the lists of spans, their events and links.
    ascent: Ascent,
}

/// An attribute that has a place.
struct Listed<'a> {
    attribute: &'a Attribute,
    /// A span or what produced it has it, not only an event or a link.
    is_of_span: bool,
}

/// What makes an attribute: the place of its name among the texts, the type, the place of its text or its bits.
type Content = (u64, u8, u64);

impl<'a> AttributePlaces<'a> {
    /// Writes how many attributes a span has, and the place of each.
    pub(super) fn put(&mut self, encoder: &mut Encoder<'a>, attributes: &'a Attributes) {
        let Some((table, list)) = attributes.shared() else {
            return self.put_each(encoder, attributes, true);
        };
        encoder.number(list.len() as u64);
        let of_table = self.of_table(table);
        for &at in list {
            let known = self.places[of_table][at as usize];
            let place = if known > 0 {
                known - 1
            } else {
                let place = self.place_of(encoder, table.get(at), true);
                self.places[of_table][at as usize] = place + 1;
                place
            };
            encoder.number(self.ascent.written(u64::from(place)));
        }
    }

    /// The same of an event or a link: its attributes are not among those of spans.
    pub(super) fn put_beside(&mut self, encoder: &mut Encoder<'a>, attributes: &'a Attributes) {
        self.put_each(encoder, attributes, false);
    }

    /// The same of a resource, which is read apart from the spans: its places are written as they are.
    pub(super) fn put_of_resource(&mut self, encoder: &mut Encoder<'a>, attributes: &'a Attributes) {
        encoder.number(attributes.len() as u64);
        for attribute in attributes {
            let place = self.place_of(encoder, attribute, true);
            encoder.number(u64::from(place) + 1);
        }
    }

    fn put_each(&mut self, encoder: &mut Encoder<'a>, attributes: &'a Attributes, is_of_span: bool) {
        encoder.number(attributes.len() as u64);
        for attribute in attributes {
            let place = self.place_of(encoder, attribute, is_of_span);
            encoder.number(self.ascent.written(u64::from(place)));
        }
    }

    /// The attributes as they are stored, their count first; and those of spans and resources.
    pub(super) fn finish(self, encoder: &mut Encoder<'a>) -> (Vec<u8>, Vec<&'a Attribute>) {
        let items = std::mem::take(&mut encoder.out);
        let mut texts = Ascent::default();
        for listed in &self.listed {
            encoder.attribute(listed.attribute, &mut texts);
        }
        let encoded = std::mem::replace(&mut encoder.out, items);
        let mut head = Vec::with_capacity(encoded.len() + 8);
        push_number(&mut head, self.listed.len() as u64);
        head.extend_from_slice(&encoded);
        let of_spans = self.listed.into_iter().filter(|listed| listed.is_of_span);
        (head, of_spans.map(|listed| listed.attribute).collect())
    }

    fn of_table(&mut self, table: &Arc<AttributeTable>) -> usize {
        let address = Arc::as_ptr(table);
        if let Some((_, at)) = self.last.filter(|(last, _)| *last == address) {
            return at;
        }
        let at = *self.tables.entry(address).or_insert_with(|| {
            self.places.push(vec![0; table.len()]);
            self.places.len() - 1
        });
        self.last = Some((address, at));
        at
    }

    fn place_of(&mut self, encoder: &mut Encoder<'a>, attribute: &'a Attribute, is_of_span: bool) -> u32 {
        let (kind, value) = match &attribute.1 {
            AttributeValue::String(text) => (0, encoder.place_of(text)),
            AttributeValue::Bool(value) => (1, u64::from(*value)),
            AttributeValue::Int(value) => (2, *value as u64),
            AttributeValue::Double(value) => (3, value.to_bits()),
            AttributeValue::Json(text) => (4, encoder.place_of(text)),
        };
        let content = (encoder.place_of(&attribute.0), kind, value);
        let place = *self.by_content.entry(content).or_insert_with(|| {
            self.listed.push(Listed { attribute, is_of_span });
            u32::try_from(self.listed.len() - 1).expect("invariant: a batch has fewer than 2³² attributes")
        });
        self.listed[place as usize].is_of_span |= is_of_span;
        place
    }
}
