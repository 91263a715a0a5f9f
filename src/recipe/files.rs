//! What a recipe may take of its repository: how many files, how large, and by which names.

use super::{Files, Recipe};
use crate::environment::Cause;

/// Each file is a call to GitHub.
pub const MOST_FILES: usize = 200;
/// One file, and all of them, in bytes.
pub const LARGEST_FILE: usize = 1 << 20;
pub const LARGEST_FILES: usize = 4 << 20;
/// What Linux takes: a name (`NAME_MAX`), and a path (`PATH_MAX`) with room for the folder that it is put into.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 1_024;

impl Recipe {
    /// Refuses files that are more than a recipe may take, and those whose names lead somewhere else than into the
    /// folder that they are put into.
    ///
    /// # Errors
    ///
    /// [`Cause::InvalidRecipe`] with the field that names them.
    pub fn admit_files(&self, files: &Files) -> Result<(), Cause> {
        let size = files.values().map(Vec::len).fold(0, usize::saturating_add);
        if files.len() > MOST_FILES {
            return Err(self.refuse_files(&format!("names {} files, and may name {MOST_FILES}", files.len())));
        }
        if size > LARGEST_FILES || files.values().any(|content| content.len() > LARGEST_FILE) {
            let (one, all) = (LARGEST_FILE >> 20, LARGEST_FILES >> 20);
            return Err(self.refuse_files(&format!("names more than {one} MiB in a file, or {all} MiB in all")));
        }
        if !files.keys().all(|path| is_path(path)) {
            return Err(self.refuse_files("names a file whose path is not one of a repository: no .., and no //"));
        }
        let is_folder_too =
            |path: &String| files.range(format!("{path}/")..).next().is_some_and(|(next, _)| is_below(next, path));
        if files.keys().any(is_folder_too) {
            return Err(self.refuse_files("names a file that is a folder as well"));
        }
        Ok(())
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Git keeps no other names; whoever hands files over by themselves may try.
pub(super) fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..") && name.len() <= LONGEST_NAME && !name.contains(|c: char| c.is_control())
    };
    path.len() <= LONGEST_PATH && path.split('/').all(is_name)
}
