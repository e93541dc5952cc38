//! The loop around an item index on real data. A ranking model logs its scores, a two-tower student is
//! distilled from the logs, its items are dumped and indexed, the index serves, and the funnel is measured.
//!
//! The steps in order, each a module: [`data`], [`past`] (what was known before a week), [`als`] and
//! [`recall`], [`teacher`] over [`features`], [`logs`], [`student`] and [`train`], [`serve`], [`test_set`]
//! with [`measure`], [`story`] and [`report`]. [`run`] puts them together.

pub mod als;
pub mod data;
pub mod features;
pub mod logs;
pub mod measure;
pub mod past;
pub mod recall;
pub mod report;
pub mod run;
pub mod serve;
pub mod story;
pub mod student;
pub mod svg;
pub mod teacher;
pub mod test_set;
pub mod train;
pub mod trees;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
