//! Columns and filters: what they keep, compared with a plain evaluator of the same values.

mod common;

use common::*;
use itemdex::{
    Column, ColumnKind, Error, Expression, Index, IndexBuilder, Parameters, Plan, Value, Values, flag,
    is_null, number, tag,
};
use proptest::prelude::*;
use tempfile::TempDir;

const REGIONS: [&str; 5] = ["BR", "DE", "JP", "US", "\"quoted\\\""];

/// The values of an item, by hand.
#[derive(Debug, Clone, Default)]
struct Row {
    region: Option<usize>,
    labels: Option<Vec<usize>>,
    author: Option<u64>,
    price: Option<f32>,
    age: Option<i64>,
    new: Option<bool>,
    until: Option<i64>,
}

fn row() -> impl Strategy<Value = Row> {
    let maybe = |weight| proptest::option::weighted(weight, Just(()));
    let author = prop_oneof![0..6u64, Just(u64::MAX)];
    let price = prop_oneof![(0..20i32).prop_map(|price| price as f32 / 10.0), Just(-0.0), Just(f32::MAX)];
    let age = prop_oneof![-3..3i64, Just(i64::MAX), Just(i64::MIN)];
    let values =
        (0..5usize, proptest::collection::vec(0..5usize, 0..4), author, price, age, any::<bool>(), 0..9i64);
    (values, [maybe(0.9), maybe(0.8), maybe(0.7), maybe(0.9), maybe(0.8), maybe(0.7), maybe(0.5)]).prop_map(
        |((region, labels, author, price, age, new, until), there)| Row {
            region: there[0].map(|()| region),
            labels: there[1].map(|()| labels),
            author: there[2].map(|()| author),
            price: there[3].map(|()| price),
            age: there[4].map(|()| age),
            new: there[5].map(|()| new),
            until: there[6].map(|()| until),
        },
    )
}

fn labels(numbers: &[usize]) -> Vec<&'static str> {
    numbers.iter().map(|&number| REGIONS[number]).collect()
}

fn columns(rows: &[Row]) -> Vec<Column> {
    use ColumnKind::*;
    let rows = || rows.iter();
    vec![
        Column::new("region", Tag, rows().map(|row| row.region.map(|number| REGIONS[number]))),
        Column::new("labels", Tag, rows().map(|row| row.labels.as_deref().map(labels))),
        Column::new("author", Tag, rows().map(|row| row.author)),
        Column::new("price", Number, rows().map(|row| row.price)),
        Column::new("age", Number, rows().map(|row| row.age)),
        Column::new("new", Flag, rows().map(|row| row.new)),
        Column::new("until", Expires, rows().map(|row| row.until)),
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect()
}

fn built(rows: &[Row]) -> (TempDir, Index) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let items = rows.iter().enumerate().map(|(row, _)| (row as u64 * 3, [(row as f32).sin(), 1.0]));
    let builder = IndexBuilder::new("v1").m(2).ef_construction(4).threads(1);
    columns(rows).into_iter().fold(builder, IndexBuilder::column).build_from(items, &path).unwrap();
    let index = Index::open(&path).unwrap();
    (folder, index)
}

/// What the tests ask of a row.
#[derive(Debug, Clone)]
enum Asked {
    Region(Vec<usize>),
    AllLabels(Vec<usize>),
    NoLabel(Vec<usize>),
    Author(Vec<u64>),
    /// Of the price: the comparison, and the bound in tenths.
    Price(&'static str, i32),
    Between(i32, i32),
    /// Of the age, against a bound that no `f32` has.
    Age(&'static str, i64),
    AgeReal(&'static str, i32),
    New(bool),
    Until(i64),
    Null(&'static str),
    Not(Box<Asked>),
    And(Box<Asked>, Box<Asked>),
    Or(Box<Asked>, Box<Asked>),
}

fn asked() -> impl Strategy<Value = Asked> {
    let numbers = || proptest::collection::vec(0..5usize, 0..3);
    let sign = || prop::sample::select(vec!["<", "<=", ">", ">=", "=", "!="]);
    let names = vec!["region", "labels", "author", "price", "age", "new", "until"];
    let leaf = prop_oneof![
        numbers().prop_map(Asked::Region),
        numbers().prop_map(Asked::AllLabels),
        numbers().prop_map(Asked::NoLabel),
        proptest::collection::vec(prop_oneof![0..8u64, Just(u64::MAX)], 0..4).prop_map(Asked::Author),
        (sign(), -1..21i32).prop_map(|(sign, bound)| Asked::Price(sign, bound)),
        (0..20i32, 0..20i32).prop_map(|(low, high)| Asked::Between(low, high)),
        (sign(), prop_oneof![-4..4i64, Just(i64::MAX - 1), Just(i64::MAX)])
            .prop_map(|(sign, bound)| Asked::Age(sign, bound)),
        (sign(), -8..8i32).prop_map(|(sign, bound)| Asked::AgeReal(sign, bound)),
        any::<bool>().prop_map(Asked::New),
        (0..9i64).prop_map(Asked::Until),
        prop::sample::select(names).prop_map(Asked::Null),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let inner = || inner.clone().prop_map(Box::new);
        prop_oneof![
            inner().prop_map(Asked::Not),
            (inner(), inner()).prop_map(|(a, b)| Asked::And(a, b)),
            (inner(), inner()).prop_map(|(a, b)| Asked::Or(a, b)),
        ]
    })
}

fn holds<T: PartialOrd>(value: T, sign: &str, bound: T) -> bool {
    match sign {
        "<" => value < bound,
        "<=" => value <= bound,
        ">" => value > bound,
        ">=" => value >= bound,
        "=" => value == bound,
        _ => value != bound,
    }
}

fn compared(column: &str, sign: &str, bound: impl Into<itemdex::Literal>) -> Expression {
    match sign {
        "<" => number(column).below(bound),
        "<=" => number(column).at_most(bound),
        ">" => number(column).above(bound),
        ">=" => number(column).at_least(bound),
        "=" => number(column).is(bound),
        _ => !number(column).is(bound),
    }
}

impl Asked {
    fn truth(&self, row: &Row) -> Option<bool> {
        let named = |numbers: &[usize], number: &usize| numbers.contains(number);
        match self {
            Asked::Region(numbers) => row.region.map(|region| named(numbers, &region)),
            Asked::AllLabels(numbers) => {
                row.labels.as_ref().map(|labels| numbers.iter().all(|number| named(labels, number)))
            }
            Asked::NoLabel(numbers) => {
                row.labels.as_ref().map(|labels| !labels.iter().any(|label| named(numbers, label)))
            }
            Asked::Author(authors) => row.author.map(|author| authors.contains(&author)),
            Asked::Price(sign, bound) => row.price.map(|price| holds(price, sign, *bound as f32 / 10.0)),
            Asked::Between(low, high) => {
                row.price.map(|price| (*low as f32 / 10.0..=*high as f32 / 10.0).contains(&price))
            }
            Asked::Age(sign, bound) => row.age.map(|age| holds(age, sign, *bound)),
            Asked::AgeReal(sign, halves) => {
                row.age.map(|age| holds(2 * i128::from(age), sign, i128::from(*halves)))
            }
            Asked::New(new) => row.new.map(|value| value == *new),
            Asked::Until(bound) => row.until.map(|until| until > *bound),
            Asked::Null(column) => Some(match *column {
                "region" => row.region.is_none(),
                "labels" => row.labels.is_none(),
                "author" => row.author.is_none(),
                "price" => row.price.is_none(),
                "age" => row.age.is_none(),
                "new" => row.new.is_none(),
                _ => row.until.is_none(),
            }),
            Asked::Not(inner) => inner.truth(row).map(|truth| !truth),
            Asked::And(a, b) => match (a.truth(row), b.truth(row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (a, b) => a.and(b),
            },
            Asked::Or(a, b) => match (a.truth(row), b.truth(row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (a, b) => a.and(b),
            },
        }
    }

    fn built(&self) -> Expression {
        match self {
            Asked::Region(numbers) => tag("region").any(labels(numbers)),
            Asked::AllLabels(numbers) => tag("labels").all(labels(numbers)),
            Asked::NoLabel(numbers) => tag("labels").none(labels(numbers)),
            Asked::Author(authors) => tag("author").any(authors),
            Asked::Price(sign, bound) => compared("price", sign, f64::from(*bound) / 10.0),
            Asked::Between(low, high) => {
                number("price").between(f64::from(*low) / 10.0, f64::from(*high) / 10.0)
            }
            Asked::Age(sign, bound) => compared("age", sign, *bound),
            Asked::AgeReal(sign, halves) => compared("age", sign, f64::from(*halves) / 2.0),
            Asked::New(new) => flag("new").is(*new),
            Asked::Until(bound) => number("until").above(*bound),
            Asked::Null(column) => is_null(*column),
            Asked::Not(inner) => !inner.built(),
            Asked::And(a, b) => a.built() & b.built(),
            Asked::Or(a, b) => a.built() | b.built(),
        }
    }

    /// The text form; lists of authors are parameters.
    fn text(&self, parameters: &mut Parameters) -> String {
        let list = |numbers: &[usize]| {
            let quoted = |text: &&str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            labels(numbers).iter().map(quoted).collect::<Vec<_>>().join(", ")
        };
        match self {
            Asked::Region(numbers) => format!("region in ({})", list(numbers)),
            Asked::AllLabels(numbers) => format!("labels all({})", list(numbers)),
            Asked::NoLabel(numbers) => format!("labels NONE ({})", list(numbers)),
            Asked::Author(authors) => {
                let name =
                    format!("authors.{}", authors.iter().map(u64::to_string).collect::<Vec<_>>().join("_"));
                *parameters = std::mem::take(parameters).with(&name, authors);
                format!("author any ${name}")
            }
            Asked::Price(sign, bound) => format!("price{sign}{:.1}", f64::from(*bound) / 10.0),
            Asked::Between(low, high) => {
                format!("price between {:.1} and {:.1}", f64::from(*low) / 10.0, f64::from(*high) / 10.0)
            }
            Asked::Age(sign, bound) => format!("age {sign} {bound}"),
            Asked::AgeReal(sign, halves) => format!("age {sign} {:.1}", f64::from(*halves) / 2.0),
            Asked::New(true) => "new".to_owned(),
            Asked::New(false) => "new = false".to_owned(),
            Asked::Until(bound) => format!("until>{bound}"),
            Asked::Null(column) => format!("{column} is null"),
            Asked::Not(inner) => format!("not ({})", inner.text(parameters)),
            Asked::And(a, b) => format!("({}) and ({})", a.text(parameters), b.text(parameters)),
            Asked::Or(a, b) => format!("({}) or ({})", a.text(parameters), b.text(parameters)),
        }
    }
}

/// The ids that a filter keeps, found by ranking all items that it keeps.
fn matching(index: &Index, expression: &Expression) -> usize {
    index.filter(expression).unwrap().matching()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_filter_keeps_the_items_for_which_the_expression_is_true(
        rows in proptest::collection::vec(row(), 1..140),
        asked in proptest::collection::vec(asked(), 1..20),
    ) {
        let (_folder, index) = built(&rows);
        index.verify(|_| ()).unwrap();
        for asked in asked {
            let expression = asked.built();
            let mut parameters = Parameters::new();
            let text = asked.text(&mut parameters);
            let parsed = Expression::parse(&text, &parameters).unwrap();
            // In the order of parsing sums are flat, so that trees may differ in their shape only.
            let expected = rows.iter().filter(|row| asked.truth(row) == Some(true)).count();
            prop_assert_eq!(matching(&index, &expression), expected, "{}", text);
            prop_assert_eq!(matching(&index, &parsed), expected, "{}", text);

            // The expression, its negation, and null have each row once.
            let negated = rows.iter().filter(|row| asked.truth(row) == Some(false)).count();
            prop_assert_eq!(matching(&index, &!expression.clone()), negated);
            let nulls = rows.iter().filter(|row| asked.truth(row).is_none()).count();
            prop_assert_eq!(expected + negated + nulls, rows.len());
        }
    }

    #[test]
    fn de_morgan_holds(rows in proptest::collection::vec(row(), 1..80), a in asked(), b in asked()) {
        let (_folder, index) = built(&rows);
        let (a, b) = (a.built(), b.built());
        let both = !(a.clone() & b.clone());
        let either = !(a.clone() | b.clone());
        prop_assert_eq!(matching(&index, &both), matching(&index, &(!a.clone() | !b.clone())));
        prop_assert_eq!(matching(&index, &either), matching(&index, &(!a & !b)));
    }

    #[test]
    fn an_item_keeps_its_values(rows in proptest::collection::vec(row(), 1..100)) {
        let (_folder, index) = built(&rows);
        for (number, row) in rows.iter().enumerate() {
            let mut tags = row.labels.as_deref().map(labels);
            tags.iter_mut().for_each(|tags| { tags.sort(); tags.dedup() });
            let expected = Values::new()
                .with("region", row.region.map(|region| REGIONS[region]))
                .with("labels", tags)
                .with("author", row.author)
                .with("price", row.price)
                .with("age", row.age)
                .with("new", row.new)
                .with("until", row.until);
            prop_assert_eq!(index.values(number as u64 * 3), Some(expected));
        }
        prop_assert_eq!(index.values(1), None);
    }
}

#[test]
fn rows_that_are_put_in_order_take_their_values_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let items = items(12_000, 4, 5);
    let price = Column::new("price", ColumnKind::Number, items.iter().map(|(id, _)| *id as i64)).unwrap();
    let tags = items.iter().map(|(id, _)| if id % 50 == 0 { vec!["few", "all"] } else { vec!["all"] });
    let tags = Column::new("tags", ColumnKind::Tag, tags).unwrap();
    let builder = IndexBuilder::new("v1").plans([Plan::Partitions]).column(price).column(tags);
    builder.build_from(items.clone(), &path).unwrap();
    let index = Index::open(&path).unwrap();
    index.verify(|_| ()).unwrap();
    assert!(index.ids().iter().zip(&items).any(|(id, item)| *id != item.0), "the rows were put in order");
    for (id, _) in &items {
        assert_eq!(index.values(*id).unwrap().get("price"), &Value::Integer(*id as i64));
    }
    let few = items.iter().filter(|(id, _)| id % 50 == 0).count();
    assert_eq!(matching(&index, &tag("tags").is("few")), few);
    assert_eq!(matching(&index, &tag("tags").all(["few", "all"])), few);
    let columns = index.info().columns;
    assert_eq!((columns[0].name.as_str(), columns[0].type_name, columns[0].nulls), ("price", "i64", 0));
    assert_eq!((columns[1].distinct, columns[1].kind), (2, ColumnKind::Tag));
    let bytes: u64 = columns.iter().map(|column| column.bytes).sum();
    assert!(index.info().sections.contains(&("columns", bytes)));
}

fn problem(result: Result<impl Sized, Error>) -> String {
    result.err().expect("it is refused").to_string()
}

#[test]
fn an_expression_that_does_not_fit_the_columns_is_refused() {
    let (_folder, index) = built(&[
        Row::default(),
        Row { region: Some(1), author: Some(2), price: Some(1.0), age: Some(1), ..Row::default() },
    ]);
    let refused = |expression: Expression| problem(index.filter(&expression));
    assert!(refused(number("prise").above(1)).contains("no column prise, but region, labels, author, price"));
    assert!(refused(tag("region").any([7u64])).contains("column region has tags that are strings"));
    assert!(refused(tag("author").is("me")).contains("column author has tags that are numbers (u64)"));
    assert!(refused(tag("region").is("JP") & number("age").above("high")).contains("the text \"high\""));
    assert!(refused(number("region").above("A")).contains("ranges are of numbers"));
    assert!(refused(!number("price").at_most(f64::NAN)).contains("NaN"));
    assert!(refused(flag("price").is_true()).contains("column price has numbers"));
    let deep = (0..10_000).fold(flag("new").is_true(), |deep, turn| match turn % 2 {
        0 => deep & flag("new").is_true(),
        _ => deep | flag("new").is_true(),
    });
    assert!(refused(deep).contains("nested deeper than 100"));
    let wide = (0..1_000).fold(flag("new").is_true(), |wide, _| wide & is_null("new"));
    assert_eq!(matching(&index, &wide), 0);
    let plain = build(&items(3, 2, 1));
    assert!(problem(plain.index.filter(&is_null("a"))).contains("built without columns"));
    assert_eq!(plain.index.values(0), Some(Values::new()));
}

#[test]
fn a_text_that_cannot_be_read_says_where_and_what_was_expected() {
    let parameters = Parameters::new().with("two", [1u64, 2]).with("text", ["a"]);
    let refused = |text: &str| problem(Expression::parse(text, &parameters));
    for (text, expected) in [
        ("", "at character 1: expected a column, \"not\" or \"(\", found the end"),
        ("price <= ", "at character 10: expected a value"),
        ("price <= 1 region = 2", "at character 12: expected \"and\", \"or\" or the end, found \"region\""),
        (
            "region in \"JP\"",
            "at character 11: expected a list in parentheses or a parameter, such as $name, found the text \"JP\"",
        ),
        ("region in (\"JP\" \"US\")", "at character 17: expected \",\" or \")\""),
        ("region in (\"JP", "at character 12: the text that begins here has no \" at its end"),
        ("rëgion = 1", "at character 2: 'ë' is not of the language"),
        ("price = \"ë\" & 1", "at character 13: '&' is not of the language"),
        ("author in $blocked", "at character 11: no parameter $blocked was given"),
        ("author = $two", "at character 10: the parameter $two has 2 values; one is compared here"),
        ("price < $text", "at character 9: expected a number, found the text \"a\""),
        ("author in $", "at character 11: expected the name of a parameter behind $"),
        ("price < 1e999", "at character 9: 1e999 is not a number"),
        ("price < 12x", "at character 9: 12x is not a number"),
        ("price < inf", "at character 9: expected a value"),
        ("price between 1 or 2", "at character 17: expected \"and\", found \"or\""),
        ("price is 3", "at character 10: expected \"null\", found the integer 3"),
        ("(new", "at character 5: expected \"and\", \"or\" or \")\", found the end"),
        ("new)", "at character 4: expected \"and\", \"or\" or the end, found \")\""),
        ("a not b", "at character 7: expected \"in\", found \"b\""),
        ("t = 'it\\s'", "at character 5: a backslash in a text"),
    ] {
        let said = refused(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let deep = |depth| "(".repeat(depth) + "new" + &")".repeat(depth);
    assert!(Expression::parse(&deep(31), &parameters).is_ok());
    assert!(refused(&deep(32)).contains("at character 33: it is nested deeper than 32"));
    assert!(refused(&deep(100_000)).contains("nested deeper"));
    assert!(refused(&"not ".repeat(100_000)).contains("nested deeper"));
}

#[test]
fn a_column_that_cannot_be_built_is_refused() {
    use ColumnKind::*;
    let refused = |name: &str, kind, values: Vec<Value>| problem(Column::new(name, kind, values));
    assert!(refused("", Flag, vec![]).contains("cannot name a column"));
    assert!(refused("not", Flag, vec![]).contains("a word of the filters' language"));
    assert!(refused("a b", Flag, vec![]).contains("cannot name a column"));
    assert!(refused(&"n".repeat(65), Flag, vec![]).contains("at most 64"));
    let nan = refused("price", Number, vec![1.0.into(), f64::NAN.into()]);
    assert!(nan.contains("column price: row 1: its number is NaN"), "{nan}");
    assert!(refused("price", Number, vec![Value::Null, 1e300.into()]).contains("not finite as f32"));
    assert!(
        refused("price", Number, vec![1.into(), 1.5.into()]).contains("row 1: its value is a real number")
    );
    assert!(refused("tag", Tag, vec!["a".into(), 1u64.into()]).contains("the column is of strings"));
    assert!(refused("tag", Tag, vec![true.into()]).contains("the column is of tags"));
    assert!(refused("until", Expires, vec![1.5.into()]).contains("whole seconds since 1970"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let build = |columns: Vec<Column>| {
        let builder = columns.into_iter().fold(IndexBuilder::new("v1"), IndexBuilder::column);
        problem(builder.build_from([(1, [1.0]), (2, [2.0])], &path))
    };
    let column = |name: &str, kind, rows: i32| Column::new(name, kind, 0..rows).unwrap();
    assert!(build(vec![column("a", Number, 3)]).contains("column a: it has 3 values for the 2 items"));
    assert!(build(vec![column("a", Number, 2), column("a", Expires, 2)]).contains("two columns a"));
    assert!(
        build(vec![column("a", Expires, 2), column("b", Expires, 2)]).contains("both say when items expire")
    );
    assert!(!path.exists());
}

#[test]
fn columns_without_a_value_are_columns_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.itemdex");
    let kinds = [ColumnKind::Tag, ColumnKind::Number, ColumnKind::Flag, ColumnKind::Expires];
    let columns = kinds.map(|kind| Column::new(kind.name(), kind, [Value::Null, Value::Null]).unwrap());
    let builder = columns.into_iter().fold(IndexBuilder::new("v1"), IndexBuilder::column);
    builder.build_from([(1, [1.0]), (2, [2.0])], &path).unwrap();
    let index = Index::open(&path).unwrap();
    index.verify(|_| ()).unwrap();
    for kind in kinds {
        assert_eq!(matching(&index, &is_null(kind.name())), 2);
        assert_eq!(index.values(1).unwrap().get(kind.name()), &Value::Null);
    }
    assert_eq!(matching(&index, &!tag("tag").any(["a"])), 0);
}

/// Files with columns, damaged: a flipped bit is found by `verify`, and no call panics.
#[test]
fn damage_to_columns_is_found_and_causes_no_panic() {
    let mut random = Random(8);
    let row = |random: &mut Random| Row {
        region: random.below(5).checked_sub(1),
        labels: (random.below(4) > 0).then(|| (0..random.below(4)).map(|_| random.below(5)).collect()),
        author: (random.below(4) > 0).then(|| random.next() % 40),
        price: (random.below(4) > 0).then(|| random.normal()),
        age: (random.below(4) > 0).then(|| random.below(9) as i64),
        new: (random.below(4) > 0).then(|| random.below(2) == 0),
        until: (random.below(4) > 0).then(|| random.below(9) as i64),
    };
    let rows: Vec<Row> = (0..100).map(|_| row(&mut random)).collect();
    let (folder, index) = built(&rows);
    let whole = std::fs::read(folder.path().join("items.itemdex")).unwrap();
    let sections = index.info().sections;
    let [columns, directory] = [sections[11], sections[12]];
    assert_eq!((columns.0, directory.0), ("columns", "column_directory"));
    let page = |length: u64| length.next_multiple_of(4096) as usize;
    let start = whole.len() - page(columns.1) - page(directory.1);
    let path = folder.path().join("damaged.itemdex");
    let expressions = [
        "region in (\"JP\", \"US\")",
        "not labels all (\"JP\")",
        "author in (1, 2, 3)",
        "price > 0.5",
        "not age = 3",
        "new",
        "until <= 4",
        "region is null",
    ];
    let expressions = expressions.map(|text| Expression::parse(text, &Parameters::new()).unwrap());
    let mut opened = 0;
    for turn in 0..1_500 {
        let mut damaged = whole.clone();
        let at = match turn % 3 {
            0 => whole.len() - page(directory.1) + random.below(directory.1 as usize),
            _ => start + random.below(columns.1 as usize),
        };
        damaged[at] ^= 1 << random.below(8);
        std::fs::write(&path, &damaged).unwrap();
        let Ok(index) = Index::open(&path) else { continue };
        opened += 1;
        assert!(index.verify(|_| ()).is_err(), "byte {at}");
        let _ = index.info();
        for expression in &expressions {
            if let Ok(filter) = index.filter(expression) {
                assert!(filter.matching() <= index.len());
            }
        }
        index.ids().iter().for_each(|&id| assert!(index.values(id).is_some()));
    }
    assert!(opened > 1_000);
}
