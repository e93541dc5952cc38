use std::path::Path;
use std::thread;

use crossbeam::channel::{Sender, bounded};

use crate::assignment::Shard;
use crate::dump::{Batch, Dump};
use crate::file::FileWriter;
use crate::limits::MAX_ROWS;
use crate::progress::{Stage, Watch};
use crate::vectors::{EmbeddingValue, RowFormat, Rows, pad, problem_with};
use crate::{Error, Result};

/// Batches that the reader may be ahead of the writer.
const AHEAD: usize = 4;

/// Rows between two looks at progress and cancellation.
pub(super) const ROWS_A_TICK: usize = 4096;

/// Checks rows and writes them, padded, as the first section of a file that goes when it is dropped.
pub(super) struct RowWriter {
    pub file: FileWriter,
    pub dim: usize,
    pub format: RowFormat,
    /// What the rows come from, and what their ids come from, for errors.
    origin: String,
    pub id_origin: String,
    pub ids: Vec<u64>,
    pub squared_norms: Vec<f32>,
    padded: Vec<f32>,
    bytes: Vec<u8>,
    /// Rows of other shards are left out.
    shard: Option<Shard>,
    /// Rows that were read.
    pub read: u64,
    /// Where each row stands in the dump; empty where none was left out for its shard.
    kept: Vec<u64>,
}

impl RowWriter {
    pub fn create(
        out: &Path,
        (dim, format): (usize, RowFormat),
        [origin, id_origin]: [String; 2],
        shard: Option<Shard>,
    ) -> Result<RowWriter> {
        let file = FileWriter::create(out)?;
        let (ids, squared_norms, padded, bytes, kept) = Default::default();
        Ok(RowWriter {
            file,
            dim,
            format,
            origin,
            id_origin,
            ids,
            squared_norms,
            padded,
            bytes,
            shard,
            read: 0,
            kept,
        })
    }

    /// Where a row stands in the dump.
    pub fn place_in_dump(&self, row: u32) -> u64 {
        self.kept.get(row as usize).copied().unwrap_or(row.into())
    }

    /// Writes a whole dump, which a thread of its own reads ahead.
    pub fn write_dump(&mut self, mut dump: Dump, watch: &Watch<'_>) -> Result<()> {
        let total = dump.rows() as usize;
        let (sender, batches) = bounded(AHEAD);
        thread::scope(|scope| {
            scope.spawn(move || read_all(&mut dump, &sender));
            for batch in batches {
                let Batch { ids, rows } = batch?;
                for (id, row) in ids.iter().zip(rows.chunks_exact(self.dim)) {
                    self.write(*id, row)?;
                }
                watch.tick(Stage::Rows, self.read as usize, total)?;
            }
            Ok(())
        })
    }

    pub fn write_items<T: EmbeddingValue, V: AsRef<[T]>>(
        &mut self,
        items: impl Iterator<Item = (u64, V)>,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let mut row = Vec::new();
        for (id, embedding) in items {
            if self.read.is_multiple_of(ROWS_A_TICK as u64) {
                watch.tick(Stage::Rows, self.read as usize, 0)?;
            }
            row.clear();
            row.extend(embedding.as_ref().iter().map(|value| value.to_f32()));
            self.write(id, &row)?;
        }
        Ok(())
    }

    /// Ends the section; there must have been a row.
    pub fn finish(mut self) -> Result<RowWriter> {
        if self.ids.is_empty() {
            let of_shard = self.shard.map_or(String::new(), |shard| format!(" of shard {shard}"));
            let problem = format!("there are no rows{of_shard}; an index needs at least one");
            return Err(Error::BadDump { origin: self.origin, row: None, problem });
        }
        self.file.end_section()?;
        Ok(self)
    }

    fn write(&mut self, id: u64, embedding: &[f32]) -> Result<()> {
        if embedding.len() != self.dim {
            return Err(self.bad_row(format!(
                "it has {} values, the rows before have {}",
                embedding.len(),
                self.dim
            )));
        }
        if let Some(problem) = problem_with(embedding) {
            return Err(self.bad_row(problem));
        }
        let row = self.read;
        if let Some(shard) = self.shard {
            if !shard.holds(id) {
                self.read += 1;
                return Ok(());
            }
            self.kept.push(row);
        }
        if self.ids.len() as u64 == MAX_ROWS {
            return Err(self.bad_row("an index holds at most 2^31 - 1 rows; split the dump".to_owned()));
        }
        pad(embedding, &mut self.padded);
        if let Err(at) = self.format.encode(&mut self.padded, &mut self.bytes) {
            let (value, format) = (embedding[at], self.format.name());
            let problem =
                format!("value {at} is {value}, beyond what {format} holds; build with rows of f32");
            return Err(self.bad_row(problem));
        }
        self.read += 1;
        self.ids.push(id);
        let mut squared_norm = [0.0];
        Rows::new(&self.padded, self.dim).scores(&self.padded, &[0], &mut squared_norm);
        self.squared_norms.extend(squared_norm);
        self.file.write(&self.bytes)
    }

    fn bad_row(&self, problem: String) -> Error {
        Error::BadDump { origin: self.origin.clone(), row: Some(self.read), problem }
    }
}

/// Sends every batch of a dump, or the error that ended it. Stops when nobody listens any more.
fn read_all(dump: &mut Dump, batches: &Sender<Result<Batch>>) {
    loop {
        let mut batch = Batch::default();
        let message = match dump.read(&mut batch) {
            Ok(true) => Ok(batch),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if batches.send(message).is_err() || last {
            return;
        }
    }
}
