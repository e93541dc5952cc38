//! What of the items the users of a command may see.

use std::path::{Path, PathBuf};

use clap::Args;
use itemdex::dump::IdLists;
use itemdex::{Expression, Filter, Index, Parameters};

use crate::commands::{Failure, check_lists};

#[derive(Args)]
pub(crate) struct ShownArgs {
    /// Only items for which this is true, such as 'price < 10 and region in ("JP", "US")'
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Items to leave out: an integer .npy, 1-D for all users or 2-D with one row a user, filled up with -1
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Answer as at this second since 1970, when items of that expiry are gone [default: now]
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

/// The same, read.
pub(crate) struct Shown {
    filter: Option<Filter>,
    deny: Option<IdLists>,
    now: Option<i64>,
}

impl ShownArgs {
    pub fn read(&self, index: &Index, users: usize) -> Result<Shown, Failure> {
        let filter = match &self.filter {
            Some(text) => Some(index.filter(&Expression::parse(text, &Parameters::new())?)?),
            None => None,
        };
        let deny = self.deny.as_deref().map(|path| read_denied(path, users)).transpose()?;
        Ok(Shown { filter, deny, now: self.now })
    }
}

fn read_denied(path: &Path, users: usize) -> Result<IdLists, Failure> {
    let denied = IdLists::open_filled(path)?;
    check_lists(path, &denied, "items to deny", users)?;
    Ok(denied)
}

impl Shown {
    /// Whether every user may see every item, but for what has expired.
    pub fn is_all(&self) -> bool {
        self.filter.is_none() && self.deny.is_none() && self.now.is_none()
    }

    /// The items that one of the users may not see, if some are named.
    pub fn denied(&self, user: usize) -> Option<&[u64]> {
        self.deny.as_ref().map(|deny| deny.list(user))
    }

    /// What one of the users may see.
    pub fn to(&self, user: usize) -> itemdex::Shown<'_> {
        let deny = self.denied(user).map(Into::into);
        itemdex::Shown { filter: self.filter.as_ref(), deny, allow: None, now: self.now }
    }
}
