//! Values of fresh items: upserted, set, logged by column name, filtered and expired like all others.

mod common;

use std::path::Path;

use itemdex::live::{Catalog, Change, LiveIndex, LiveOptions, PublishOptions, View};
use itemdex::{
    Column, ColumnKind, Error, Expression, IndexBuilder, Parameters, RankOptions, SearchOptions, Value,
    Values,
};
use tempfile::TempDir;

/// Five items, ids 0 to 4, with a price of ten times their id, and in the regions A and B by turns.
fn publish(catalog: &Catalog, columns: &[&str], position: Option<u64>) {
    let column = |name: &&str| match *name {
        "price" => Column::new("price", ColumnKind::Number, (0..5).map(|id| 10 * id)),
        "region" => Column::new("region", ColumnKind::Tag, (0..5).map(|id| ["A", "B"][id % 2])),
        "until" => Column::new("until", ColumnKind::Expires, (0..5).map(|id| (id < 2).then_some(1_000 + id))),
        name => Column::new(
            name,
            ColumnKind::Number,
            [Value::Null, Value::Null, Value::Null, 7.into(), Value::Null],
        ),
    };
    let builder = columns
        .iter()
        .map(column)
        .fold(IndexBuilder::new("v1"), |builder, column| builder.column(column.unwrap()));
    let build = |path: &Path| builder.build_from((0..5).map(|id| (id, [id as f32, 1.0])), path);
    let options =
        position.map_or(PublishOptions::new(), |position| PublishOptions::new().log_position(position));
    catalog.publish_made(build, &options).unwrap();
}

struct Served {
    folder: TempDir,
    catalog: Catalog,
    live: LiveIndex,
}

fn served(columns: &[&str]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
    publish(&catalog, columns, None);
    let live = open(&folder, &catalog);
    Served { folder, catalog, live }
}

fn open(folder: &TempDir, catalog: &Catalog) -> LiveIndex {
    LiveOptions::new().log(folder.path().join("fresh.log")).open(catalog.folder()).unwrap()
}

/// The ids that a filter keeps, by a search and by a rank, ascending.
fn kept(view: &View, text: &str) -> Vec<u64> {
    let expression = Expression::parse(text, &Parameters::new()).unwrap();
    let filter = view.index().filter(&expression).unwrap();
    let options = SearchOptions::new(20).filter(&filter).now(0);
    let found = view.search_with(&[1.0, 0.5], &options).unwrap();
    assert_eq!(found.matching, found.hits.len());
    let candidates: Vec<u64> = (0..20).collect();
    let ranked =
        view.rank_with(&[1.0, 0.5], &candidates, &RankOptions::new(20).filter(&filter).now(0)).unwrap();
    assert_eq!(ranked.hits, found.hits);
    let mut ids: Vec<u64> = found.hits.iter().map(|hit| hit.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn fresh_items_are_filtered_by_their_values_like_all_others() {
    let Served { folder, catalog, live } = served(&["price", "region"]);
    assert_eq!(kept(&live.current(), "price >= 20"), [2, 3, 4]);
    live.upsert_with("v1", 9, &[9.0, 1.0], Values::new().with("price", 25).with("region", "C")).unwrap();
    live.upsert("v1", 8, &[8.0, 1.0]).unwrap();
    live.set_values(1, Values::new().with("price", 70)).unwrap();
    live.set_values(2, Values::new().with("price", Value::Null).with("unknown", "x")).unwrap();
    live.set_values(15, Values::new().with("price", 70)).unwrap();
    let check = |view: &View| {
        assert_eq!(kept(view, "price >= 20"), [1, 3, 4, 9]);
        assert_eq!(kept(view, "region = \"C\" or price = 70"), [1, 9]);
        assert_eq!(kept(view, "price is null"), [2, 8]);
        assert_eq!(kept(view, "not region = \"A\""), [1, 3, 9]);
        let values = view.values(1).unwrap();
        assert_eq!((values.get("price"), values.get("region")), (&Value::Integer(70), &"B".into()));
        assert_eq!(view.get(1).as_deref(), Some(&[1.0, 1.0][..]), "the embedding stays");
        assert_eq!(view.values(8).unwrap().get("region"), &Value::Null);
        assert_eq!((view.values(15), view.len()), (None, 7));
    };
    check(&live.current());
    assert_eq!(live.status().generations[0].fresh, 4);
    drop(live);
    let live = open(&folder, &catalog);
    check(&live.current());

    live.upsert("v1", 1, &[1.0, 1.0]).unwrap();
    live.delete(9).unwrap();
    live.set_values(9, Values::new().with("price", 5)).unwrap();
    let view = live.current();
    assert_eq!(kept(&view, "price is null"), [1, 2, 8], "an upsert replaces an item whole");
    assert_eq!(view.values(9), None);
}

#[test]
fn a_generation_with_other_columns_reads_the_values_again() {
    let Served { folder: _folder, catalog, live } = served(&["price"]);
    let values = Values::new().with("stock", 3).with("price", "cheap").with("region", "Z");
    live.upsert_with("v1", 9, &[9.0, 1.0], values).unwrap();
    live.set_values(3, Values::new().with("stock", 4)).unwrap();
    let view = live.current();
    assert_eq!(view.values(9).unwrap().get("price"), &Value::Null, "a number is no text");
    assert_eq!((view.values(9).unwrap().get("stock"), live.status().generations[0].fresh), (&Value::Null, 1));

    publish(&catalog, &["stock", "region"], Some(0));
    live.refresh().unwrap();
    let view = live.current();
    assert_eq!(view.values(9).unwrap(), Values::new().with("stock", 3).with("region", "Z"));
    assert_eq!(kept(&view, "stock >= 3"), [3, 9]);
    assert_eq!(kept(&view, "stock = 7"), [] as [u64; 0]);

    // What the dump has counts where it was taken later.
    publish(&catalog, &["stock"], Some(2));
    live.refresh().unwrap();
    assert_eq!(kept(&live.current(), "stock = 7"), [3]);
}

#[test]
fn items_leave_at_their_second_wherever_they_are() {
    let Served { folder: _folder, catalog: _catalog, live } = served(&["until"]);
    live.upsert_with("v1", 9, &[9.0, 1.0], Values::new().with("until", 1_002)).unwrap();
    live.set_values(0, Values::new().with("until", 1_003)).unwrap();
    let view = live.current();
    let shown = |now| {
        let found = view.search_with(&[1.0, 0.5], &SearchOptions::new(20).now(now)).unwrap();
        let mut ids: Vec<u64> = found.hits.iter().map(|hit| hit.id).collect();
        ids.sort_unstable();
        assert_eq!(found.matching, ids.len());
        ids
    };
    assert_eq!(shown(999), [0, 1, 2, 3, 4, 9]);
    assert_eq!(shown(1_001), [0, 2, 3, 4, 9]);
    assert_eq!(shown(1_002), [0, 2, 3, 4]);
    assert_eq!(shown(1_003), [2, 3, 4]);
    let status = live.status();
    assert_eq!((status.generations[0].expired, status.generations[0].items), (3, 6));
}

#[test]
fn values_that_cannot_be_logged_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::create(folder.path().join("catalog")).unwrap();
    publish(&catalog, &["price"], None);
    let options = LiveOptions::new().log(folder.path().join("fresh.log")).fresh_limit(2);
    let live = options.open(catalog.folder()).unwrap();
    let refused = |values: Values| {
        let error = live.set_values(1, values).unwrap_err();
        assert!(matches!(error, Error::BadOption { option: "values", .. }), "{error}");
        error.to_string()
    };
    assert!(refused(Values::new().with("a b", 1)).contains("cannot name a column"));
    assert!(refused(Values::new().with("price", f64::NAN)).contains("not finite"));
    assert!(refused(Values::new().with("tags", "x".repeat(70_000).as_str())).contains("more than 65536"));

    // A change of an item of the generation takes a place among the fresh ones.
    let price = |id| Change::set_values(id, Values::new().with("price", 1));
    live.write(&[price(0), price(1), price(0), price(77)]).unwrap();
    assert!(matches!(live.write(&[price(2)]), Err(Error::OverlayFull { limit: 2, .. })));
    live.write(&[price(1), Change::set_values(2, Values::new().with("other", 1))]).unwrap();
    assert_eq!(kept(&live.current(), "price = 1"), [0, 1]);
}
