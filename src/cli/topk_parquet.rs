//! The answers of `itemdex topk` as a parquet file: a row a hit.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array, UInt64Array};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::topk::HIT;

/// Writes the file of the hits in `hits`, `width` a user, so many at a time; those that stand for nothing are left
/// out. `out` is there only when it is whole.
pub(crate) fn write(
    hits: &Path,
    out: &Path,
    (width, together): (usize, usize),
) -> Result<(), Box<dyn Error>> {
    let mut reader = BufReader::new(File::open(hits)?);
    let unfinished = out.with_extension("parquet.unfinished");
    let file = File::create(&unfinished)?;
    let first = batch(&[], 0, width)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?));
    let mut writer = ArrowWriter::try_new(file.try_clone()?, first.schema(), Some(properties.build()))?;
    let mut bytes = Vec::new();
    for start in (0..).step_by(together) {
        bytes.clear();
        (&mut reader).take((together * HIT) as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        writer.write(&batch(&bytes, start, width)?)?;
    }
    writer.close()?;
    file.sync_all()?;
    Ok(fs::rename(unfinished, out)?)
}

/// The hits in `bytes`, the first of which has so many before it.
fn batch(bytes: &[u8], start: usize, width: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let (mut users, mut ranks, mut ids, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, hit) in (start..).zip(bytes.as_chunks::<HIT>().0) {
        let [id @ .., a, b, c, d] = *hit;
        let score = f32::from_le_bytes([a, b, c, d]);
        if !score.is_nan() {
            users.push((number / width) as u64);
            ranks.push((number % width) as u32);
            ids.push(u64::from_le_bytes(id));
            scores.push(score);
        }
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("user", Arc::new(UInt64Array::from(users))),
        ("rank", Arc::new(UInt32Array::from(ranks))),
        ("id", Arc::new(UInt64Array::from(ids))),
        ("score", Arc::new(Float32Array::from(scores))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
