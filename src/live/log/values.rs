//! The bytes of an item's values in a record.
//!
//! ```text
//! value    name length u8   name   type u8   and for
//!          1 tags      count u32, then for each its length u32 and its bytes
//!          2 ids       count u32, then u64 each
//!          3 integer   i64
//!          4 real      f64
//!          5 flag      u8
//! ```
//!
//! 0 is null. Columns stand in the order of their names.

use crate::columns::{Value, Values, values_problem};

pub(super) fn write_values(values: &Values, bytes: &mut Vec<u8>) {
    for (name, value) in values.iter() {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        match value {
            Value::Null => bytes.push(0),
            Value::Tags(tags) => {
                bytes.push(1);
                bytes.extend((tags.len() as u32).to_le_bytes());
                for tag in tags {
                    bytes.extend((tag.len() as u32).to_le_bytes());
                    bytes.extend(tag.as_bytes());
                }
            }
            Value::Ids(ids) => {
                bytes.push(2);
                bytes.extend((ids.len() as u32).to_le_bytes());
                ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
            }
            Value::Integer(number) => {
                bytes.push(3);
                bytes.extend(number.to_le_bytes());
            }
            Value::Real(number) => {
                bytes.push(4);
                bytes.extend(number.to_le_bytes());
            }
            Value::Flag(flag) => bytes.extend([5, (*flag).into()]),
        }
    }
}

/// The values that are all of `bytes`; none where they are no values.
pub(super) fn read_values(mut bytes: &[u8]) -> Option<Values> {
    let mut values = Values::new();
    while !bytes.is_empty() {
        let &[length] = bytes.split_off(..1)?.as_array()?;
        let name = str::from_utf8(bytes.split_off(..length.into())?).ok()?;
        let value = read_value(&mut bytes)?;
        values.set(name, value);
    }
    values_problem(&values).is_none().then_some(values)
}

fn read_value(bytes: &mut &[u8]) -> Option<Value> {
    let &[kind] = bytes.split_off(..1)?.as_array()?;
    Some(match kind {
        0 => Value::Null,
        1 => {
            let mut tags = Vec::new();
            for _ in 0..count(bytes)? {
                let length = count(bytes)?;
                tags.push(str::from_utf8(bytes.split_off(..length)?).ok()?.to_owned());
            }
            Value::Tags(tags)
        }
        2 => {
            let length = count(bytes)?.checked_mul(8)?;
            let ids = bytes.split_off(..length)?;
            Value::Ids(ids.as_chunks().0.iter().map(|&id| u64::from_le_bytes(id)).collect())
        }
        3 => Value::Integer(i64::from_le_bytes(*bytes.split_off(..8)?.as_array()?)),
        4 => Value::Real(f64::from_le_bytes(*bytes.split_off(..8)?.as_array()?)),
        5 => match bytes.split_off(..1)? {
            [flag @ (0 | 1)] => Value::Flag(*flag == 1),
            _ => return None,
        },
        _ => return None,
    })
}

fn count(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.split_off(..4)?.as_array()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::change::bytes_of_values;

    #[test]
    fn values_are_read_as_they_were_written_and_cut_ones_are_none() {
        let values = Values::new()
            .with("a", Value::Null)
            .with("b", ["x", "\u{e9}y"])
            .with("c", [1u64, u64::MAX])
            .with("d", i64::MIN)
            .with("e", 0.1)
            .with("f", true);
        let mut bytes = Vec::new();
        write_values(&values, &mut bytes);
        assert_eq!((read_values(&bytes), bytes.len()), (Some(values.clone()), bytes_of_values(&values)));
        assert_eq!(read_values(&[]), Some(Values::new()));
        let ends: Vec<usize> = values
            .iter()
            .scan(Values::new(), |some, (name, value)| {
                some.set(name, value.clone());
                Some(bytes_of_values(some))
            })
            .collect();
        for end in 1..bytes.len() {
            assert_eq!(read_values(&bytes[..end]).is_some(), ends.contains(&end), "{end}");
        }
        for (at, byte) in [(0, 200), (2, 9), (bytes.len() - 1, 2), (1, b'-')] {
            let mut bad = bytes.clone();
            bad[at] = byte;
            assert_eq!(read_values(&bad), None, "{at}");
        }
    }
}
