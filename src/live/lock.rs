use std::fs::File;

/// A file that this process has locked; unlocked when dropped.
///
/// Closing the file would not do: a child process that is being started holds it open a moment longer.
pub(super) struct Locked(pub File);

impl Drop for Locked {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked when it is closed.
        let _ = self.0.unlock();
    }
}
