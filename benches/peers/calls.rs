//! Times searches from Rust for `python.py`, which times the same from Python in turns with this process: so both are warm.
//!
//! `calls INDEX USERS K` opens both files. Each line of standard input searches for all users, and is answered by a line
//! with the microseconds a user: `at once THREADS`, or `one by one` on this thread.

use std::error::Error;
use std::hint::black_box;
use std::io::stdin;
use std::time::Instant;

use itemdex::dump::Dump;
use itemdex::{Index, Matrix, SearchOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [index, users, k] = &arguments[..] else { return Err("give INDEX USERS K".into()) };
    let (index, users) = (Index::open(index)?, Dump::open(users)?.into_matrix()?);
    let options = SearchOptions::new(k.parse()?);
    for call in stdin().lines() {
        let call = call?;
        let threads = call.strip_prefix("at once ").map(str::parse).transpose()?;
        let began = Instant::now();
        match threads {
            Some(threads) => drop(black_box(index.search_many(&users, &options, threads)?)),
            None => one_by_one(&index, &users, &options)?,
        }
        println!("{}", began.elapsed().as_secs_f64() * 1e6 / users.len() as f64);
    }
    Ok(())
}

fn one_by_one(index: &Index, users: &Matrix, options: &SearchOptions<'_>) -> itemdex::Result<()> {
    for user in users.rows() {
        black_box(index.search_with(user, options)?);
    }
    Ok(())
}
