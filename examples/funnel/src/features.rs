//! What the teacher sees of a household and a product: crosses of the two, which no pair of towers can
//! compute.

use crate::past::{Known, Past};

pub const FEATURES: [&str; 31] = [
    "times bought",
    "weeks since last bought",
    "weeks since first bought",
    "weeks between purchases",
    "overdue",
    "times bought in 4 weeks",
    "times bought in 13 weeks",
    "share of visits",
    "share in department",
    "share in category",
    "share in type",
    "share in maker",
    "times bought in category",
    "times bought in type",
    "weeks since category",
    "weeks since type",
    "share of type's purchases",
    "popularity last week",
    "popularity in 4 weeks",
    "popularity in 13 weeks",
    "popularity ever",
    "trend of a week",
    "trend of 4 weeks",
    "return rate",
    "department",
    "brand",
    "household's purchases",
    "household's purchases lately",
    "household's visits",
    "weeks since visit",
    "recall score",
];

/// Stands for "never" where weeks are counted.
const NEVER: f32 = 60.0;

/// The features of a product for a household, in the order of [`FEATURES`]. `recall_score` is the score by
/// which the recall stage found or would have found it.
pub fn features(past: &Past, known: &Known, product: u32, recall_score: f32) -> [f32; FEATURES.len()] {
    let week = known.visit.week;
    let of = past.data.products[product as usize];
    let p = product as usize;
    let weeks = known.weeks(product);
    let since = |last: Option<u8>| last.filter(|&last| last > 0).map_or(NEVER, |last| f32::from(week - last));
    let times = weeks.count() as f32;
    let (since_last, since_first) = (since(weeks.last()), since(weeks.first()));
    let between = if times > 1.0 { (since_first - since_last) / (times - 1.0) } else { NEVER };
    let share = |part: f32| part / (known.total + 1.0);
    let visits = known.visits.count() as f32;
    let [one, four, thirteen] = [1, 4, 13].map(|weeks| past.purchases(p, week, weeks));
    [
        times,
        since_last,
        since_first,
        between,
        since_last / between,
        weeks.latest(week, 4).count() as f32,
        weeks.latest(week, 13).count() as f32,
        times / (visits + 1.0),
        share(known.departments[of.department]),
        share(known.categories[of.category]),
        share(known.kinds[of.kind]),
        share(known.makers[of.maker]),
        known.categories[of.category],
        known.kinds[of.kind],
        since(Some(known.category_last[of.category])),
        since(Some(known.kind_last[of.kind])),
        times / (known.kinds[of.kind] + 1.0),
        one,
        four,
        thirteen,
        past.purchases(p, week, week),
        (one + 1.0) / (four / 4.0 + 1.0),
        (four + 1.0) / (thirteen * 4.0 / 13.0 + 1.0),
        past.return_rate(p, week),
        of.department as f32,
        of.brand as f32,
        known.total,
        known.lately,
        visits,
        since(known.visits.last()),
        recall_score,
    ]
}
