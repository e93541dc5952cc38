//! Items as the model knows them: plain maps.

use std::collections::BTreeMap;

use crate::live::Change;
use crate::{Column, ColumnKind, Value, Values};

/// Items of a model version: an id, the first value of its embedding, and its price and its stock, of which
/// only the first is a column of every generation.
pub type Items = BTreeMap<u64, Known>;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    pub first: f32,
    pub price: Option<i64>,
    pub stock: Option<i64>,
}

/// The columns of a generation: those of every second lack the stock.
pub fn columns_of(rows: &[(u64, Known)], stock: bool) -> Vec<Column> {
    let column = |name: &str, value: fn(&Known) -> Option<i64>| {
        Column::new(name, ColumnKind::Number, rows.iter().map(|(_, known)| value(known))).unwrap()
    };
    let mut columns = vec![column("price", |known| known.price)];
    columns.extend(stock.then(|| column("stock", |known| known.stock)));
    columns
}

pub fn integer(values: &Values, name: &str) -> Option<i64> {
    match values.get(name) {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

pub fn edit(items: &mut Items, version: &str, change: &Change) {
    match change {
        Change::Upsert { model_version, id, embedding, values } if model_version == version => {
            let (price, stock) = (integer(values, "price"), integer(values, "stock"));
            items.insert(*id, Known { first: embedding[0], price, stock });
        }
        Change::SetValues { id, values } => {
            if let Some(known) = items.get_mut(id) {
                for (name, _) in values.iter() {
                    let set = if name == "price" { &mut known.price } else { &mut known.stock };
                    *set = integer(values, name);
                }
            }
        }
        Change::Upsert { .. } => {}
        Change::Delete { id } => drop(items.remove(id)),
    }
}
