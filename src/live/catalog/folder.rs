//! The files of a catalog: reading its newest list, adding one, and sweeping what no list names.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::NamedTempFile;
use tracing::{debug, warn};

use super::Catalog;
use super::list::{Affixes, GENERATION, Generation, List, number_in};
use super::staged::{StagedName, is_old};
use super::staging::{STAGING, Staging};
use crate::live::faults;
use crate::{Error, Result};

/// Lists that are kept, for people who look into what happened.
const HISTORY: u64 = 8;

/// How often a reader looks again when the list that it was about to read went away.
const TRIES: usize = 100;

const LIST: Affixes = ("catalog-", ".json");
const UNFINISHED: Affixes = (".catalog-", ".tmp");

impl Catalog {
    /// The list that holds; an empty one where there is none.
    pub(in crate::live) fn read(&self) -> Result<List> {
        for _ in 0..TRIES {
            let Some(number) = self.newest()? else {
                return Ok(List::empty());
            };
            let path = self.list_path(number);
            match fs::read_to_string(&path) {
                Ok(text) => return List::parse(&text, number, &path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let problem = "it is not text".to_owned();
                    return Err(Error::Damaged { path, offset: 0, problem });
                }
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        let problem = format!("its list changed {TRIES} times while it was read; try again");
        Err(Error::CatalogBusy { folder: self.folder.clone(), problem })
    }

    /// The number of the newest list.
    pub(in crate::live) fn newest(&self) -> Result<Option<u64>> {
        Ok(self.names()?.iter().filter_map(|name| number_in(name, LIST)).max())
    }

    pub(super) fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("open", &self.folder))?;
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let names = names.map_err(Error::io("list", &self.folder))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn list_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}{number:010}{}", LIST.0, LIST.1))
    }

    /// Writes the list under its number, unless somebody else has taken that.
    pub(super) fn commit(&self, list: &List) -> Result<()> {
        let path = self.list_path(list.number);
        let write = |mut file: NamedTempFile| {
            faults::before(&path)?;
            file.write_all(list.to_text().as_bytes())?;
            faults::before(&path)?;
            file.as_file().sync_all()?;
            faults::before(&path)?;
            file.persist_noclobber(&path).map_err(|error| error.error)
        };
        let file = tempfile::Builder::new()
            .prefix(UNFINISHED.0)
            .suffix(UNFINISHED.1)
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(&self.folder);
        let committed = match file.and_then(write) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("write", &path)(error)),
            // A writer that slept through several changes may have found its number free again.
            Ok(_) => self.newest()? == Some(list.number),
        };
        if !committed {
            let problem =
                "somebody else changed the catalog meanwhile; look at it, then try again".to_owned();
            return Err(Error::CatalogBusy { folder: self.folder.clone(), problem });
        }
        let synced = faults::before(&path).and_then(|()| File::open(&self.folder)?.sync_all());
        synced.map_err(Error::io("sync", &self.folder))
    }

    /// The files that lists in the folder name.
    fn files_of_lists(&self, names: &[String]) -> HashSet<String> {
        let numbers = names.iter().filter_map(|name| number_in(name, LIST));
        let lists = numbers.filter_map(|number| {
            let path = self.list_path(number);
            List::parse(&fs::read_to_string(&path).ok()?, number, &path).ok()
        });
        lists.flat_map(|list| list.files().into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Removes what no list can name any more. What cannot be removed is left for the next time.
    pub(super) fn sweep(&self, list: &List) {
        let files = list.files();
        let keys: HashSet<&str> = list.generations.iter().filter_map(Generation::key).collect();
        let names = self.names().unwrap_or_default();
        let is_unlisted_shard = |name: &String| !files.contains(&**name) && StagedName::parse(name).is_some();
        // A shard that no list names yet waits for its publication; one that a list dropped does not.
        let named = match names.iter().any(is_unlisted_shard) {
            true => self.files_of_lists(&names),
            false => HashSet::new(),
        };
        for name in names {
            let path = self.folder.join(&name);
            let listed = files.contains(&*name);
            let old_file =
                number_in(&name, GENERATION).is_some_and(|number| number <= list.number) && !listed;
            let old_shard = !listed
                && StagedName::parse(&name).is_some_and(|staged| {
                    named.contains(&name) || keys.contains(staged.key) || is_old(&path)
                });
            let old_list = number_in(&name, LIST).is_some_and(|number| number + HISTORY <= list.number);
            let unfinished = name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1);
            if faults::before(&path).is_err() {
                return;
            }
            let removed = match () {
                () if old_file || old_shard || old_list || unfinished => fs::remove_file(&path),
                () if name.starts_with(STAGING) && Staging::is_abandoned(&path) => fs::remove_dir_all(&path),
                () => continue,
            };
            match removed {
                Ok(()) => debug!(name, "swept"),
                Err(error) => {
                    warn!(name, %error, "cannot sweep; the next change of the catalog will try again")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers that do not see each other's lock, as on a file system without them.
    #[test]
    fn of_two_writers_of_one_number_the_second_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let mut list = catalog.read().unwrap();
        let refused = |list: &List| matches!(catalog.commit(list), Err(Error::CatalogBusy { .. }));
        list.number = 1;
        catalog.commit(&list).unwrap();
        assert!(refused(&list));
        list.number = 2;
        catalog.commit(&list).unwrap();
        // One that slept for long finds its number free again.
        fs::remove_file(catalog.list_path(1)).unwrap();
        list.number = 1;
        assert!(refused(&list));
        assert_eq!(catalog.read().unwrap().number, 2);
    }

    #[test]
    fn a_generation_of_a_change_to_come_is_not_swept() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let mut list = catalog.read().unwrap();
        list.number = 5;
        let [left, coming] =
            [5, 6].map(|number| folder.path().join(format!("generation-{number:010}-abc.itemdex")));
        for path in [&left, &coming] {
            fs::write(path, "").unwrap();
        }
        catalog.sweep(&list);
        assert!(!left.exists() && coming.exists());
    }
}
