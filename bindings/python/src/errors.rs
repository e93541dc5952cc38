//! The library's errors as exceptions.

use itemdex::Error;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The exception for an error: `OSError` for what the system refused, otherwise one of `itemdex._errors`,
/// with the name of the error's variant as its `kind`.
pub fn raised(error: Error) -> PyErr {
    if let Error::Io { cause, .. } = &error {
        return match cause.raw_os_error() {
            Some(code) => PyOSError::new_err((code, error.to_string())),
            None => std::io::Error::new(cause.kind(), error.to_string()).into(),
        };
    }
    let class = match &error {
        Error::BadDump { .. }
        | Error::DuplicateId { .. }
        | Error::WrongDim { .. }
        | Error::BadUser { .. }
        | Error::StaleRows { .. }
        | Error::StaleFilter { .. }
        | Error::BadFilter { .. }
        | Error::BadOption { .. } => "InputError",
        Error::NotAnIndex { .. } | Error::UnknownFormat { .. } | Error::Damaged { .. } => "FileError",
        Error::Cancelled => "Error",
        _ => "LiveError",
    };
    let debug = format!("{error:?}");
    let kind = debug.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
    Python::attach(|py| exception(py, class, &error.to_string(), kind).unwrap_or_else(|problem| problem))
}

fn exception(py: Python<'_>, class: &str, message: &str, kind: &str) -> PyResult<PyErr> {
    let class = py.import("itemdex._errors")?.getattr(class)?.cast_into::<PyType>()?;
    Ok(PyErr::from_value(class.call1((message, kind))?))
}
