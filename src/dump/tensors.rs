use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::records::{self, Layout, Records, Value};
use crate::{Error, Result};

/// The longest header that is read. A dump has a few tensors, and some texts beside; a crafted one could say
/// gigabytes.
const MAX_HEADER: u64 = 1 << 20;

/// The bytes before the header: its length.
const LENGTH: u64 = 8;

/// The header of a safetensors file.
pub(super) struct Tensors<'a> {
    path: &'a Path,
    metadata: Metadata,
    /// Where the values begin.
    start: u64,
}

impl Tensors<'_> {
    pub fn open(path: &Path) -> Result<Tensors<'_>> {
        let mut file = records::open(path)?;
        let found = records::length(path, &file)?;
        let bad = |problem: String| Error::dump(path, problem);
        if found < LENGTH {
            return Err(bad(format!(
                "the file ends within the {LENGTH} bytes that a safetensors begins with"
            )));
        }
        let mut length = [0; LENGTH as usize];
        file.read_exact(&mut length).map_err(Error::io("read", path))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(bad(format!(
                "its header says to be {length} bytes long, at most {MAX_HEADER} are read; is it a safetensors?"
            )));
        }
        if length > found - LENGTH {
            return Err(bad(format!("the file ends within its header of {length} bytes")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(Error::io("read", path))?;
        // The crate checks that the tensors follow each other, each with as many bytes as its shape takes.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| bad(format!("its safetensors header cannot be read: {error}")))?;
        let start = LENGTH + length;
        let expected = start.saturating_add(metadata.data_len() as u64);
        if found != expected {
            return Err(bad(format!(
                "its header says {expected} bytes in all, but the file has {found}; was it cut short, or still \
                 being written?"
            )));
        }
        Ok(Tensors { path, metadata, start })
    }

    pub fn embeddings(&self, name: &str) -> Result<Records> {
        let tensor = self.tensor(name, "--vector-column")?;
        let [rows, dim] = *tensor.shape else {
            let problem =
                format!("tensor {name} is of shape {:?}; embeddings are 2-D, one row an item", tensor.shape);
            return Err(self.bad(problem));
        };
        let value = match tensor.dtype {
            Dtype::F16 => Value::F16,
            Dtype::BF16 => Value::BF16,
            Dtype::F32 => Value::F32,
            other => {
                let problem = format!("tensor {name} holds {other:?}; embeddings are F16, BF16 or F32");
                return Err(self.bad(problem));
            }
        };
        self.records(tensor, value, rows, dim)
    }

    /// One id for each of `rows`. A file with no other tensor than the embeddings has none: ids are row numbers.
    pub fn ids(&self, name: &str, rows: u64) -> Result<Option<Records>> {
        if self.metadata.tensors().len() == 1 {
            return Ok(None);
        }
        let tensor = self.tensor(name, "--id-column")?;
        let [ids] = *tensor.shape else {
            return Err(self.bad(format!("tensor {name} is of shape {:?}; ids are 1-D", tensor.shape)));
        };
        let value = match tensor.dtype {
            Dtype::U64 => Value::U64,
            Dtype::I64 => Value::I64,
            Dtype::U32 => Value::U32,
            Dtype::I32 => Value::I32,
            other => {
                return Err(self.bad(format!("tensor {name} holds {other:?}; ids are U64, I64, U32 or I32")));
            }
        };
        match ids as u64 == rows {
            true => self.records(tensor, value, ids, 1).map(Some),
            false => Err(self.bad(format!("tensor {name} has {ids} ids for {rows} rows; give one a row"))),
        }
    }

    fn tensor(&self, name: &str, option: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).ok_or_else(|| {
            let mut names: Vec<String> = self.metadata.tensors().into_keys().collect();
            names.sort();
            self.bad(format!("it has no tensor {name}, but {}; name yours ({option})", names.join(", ")))
        })
    }

    fn records(&self, tensor: &TensorInfo, value: Value, rows: usize, width: usize) -> Result<Records> {
        let start = self.start + tensor.data_offsets.0 as u64;
        let file = File::open(self.path).map_err(Error::io("open", self.path))?;
        Records::within(self.path, file, Layout { start, value, prefix: 0, width, rows: rows as u64 })
    }

    fn bad(&self, problem: String) -> Error {
        Error::dump(self.path, problem)
    }
}
