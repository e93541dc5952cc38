//! How well an order of candidates does: against what was bought, and against the teacher's order.

/// Named as in `funnel.json`.
pub const METRICS: [&str; 7] =
    ["auc", "ndcg100", "recall100", "agree100", "agree300", "agree1000", "teacher_ndcg100"];

/// How many of the teacher's best an order is compared with.
pub const BEST: usize = 100;

/// One value a metric; none where a list cannot say, since nothing of it was bought.
pub type Metrics = [Option<f32>; METRICS.len()];

/// How many candidates the curves are taken at.
pub const COUNTS: [usize; 8] = [10, 30, 100, 200, 300, 500, 700, 1000];

/// Candidates of a visit, with what decides whether an order of them is good.
pub struct Truth {
    bought: Vec<bool>,
    /// The teacher's best, as a mark for each candidate.
    best: Vec<bool>,
    /// The chance of a purchase that the teacher gives each candidate, and what its own order gains.
    chances: Vec<f64>,
    most: f64,
}

/// What an order of candidates was measured to do.
#[derive(Clone, Copy)]
pub struct Measured {
    pub metrics: Metrics,
    /// The shares among the first of [`COUNTS`]: of what was bought (none if nothing was), and of the
    /// teacher's best.
    pub bought: Option<[f32; COUNTS.len()]>,
    pub best: [f32; COUNTS.len()],
}

impl Truth {
    /// `teacher` are the teacher's log odds, one for each candidate.
    pub fn new(teacher: &[f32], bought: Vec<bool>) -> Truth {
        let order = order(teacher);
        let mut best = vec![false; bought.len()];
        order.iter().take(BEST).for_each(|&at| best[at] = true);
        let chances: Vec<f64> = teacher.iter().map(|&score| 1.0 / (1.0 + f64::from(-score).exp())).collect();
        let most = gained(order.iter().map(|&at| chances[at]));
        Truth { bought, best, chances, most }
    }

    /// Measures the order of these scores, one for each candidate.
    pub fn measure(&self, scores: &[f32]) -> Measured {
        let order = order(scores);
        let [auc, ndcg, recall] = bought_metrics(&order, &self.bought).map_or([None; 3], |all| all.map(Some));
        let agree = |count| share(&order, count, &self.best);
        Measured {
            metrics: [auc, ndcg, recall, agree(100), agree(300), agree(1000), self.teacher_ndcg(&order)],
            bought: auc.map(|_| COUNTS.map(|count| share(&order, count, &self.bought).unwrap_or(0.0))),
            best: COUNTS.map(|count| agree(count).unwrap_or(0.0)),
        }
    }

    /// NDCG@100 of an order by the teacher's chances: 1 is the teacher's own order. None of no candidates.
    fn teacher_ndcg(&self, order: &[usize]) -> Option<f32> {
        let found = gained(order.iter().map(|&at| self.chances[at]));
        (self.most > 0.0).then(|| (found / self.most) as f32)
    }
}

fn gained(gains: impl IntoIterator<Item = f64>) -> f64 {
    gains.into_iter().take(100).enumerate().map(|(rank, gain)| gain * discount(rank)).sum()
}

/// What a place counts for in NDCG; 0 is the first.
fn discount(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}

/// The places of the scores, best first; of equal scores the earlier.
pub fn order(scores: &[f32]) -> Vec<usize> {
    // Whole numbers in the order of the scores, with the place behind: quicker to sort than the scores.
    let key = |(place, score): (usize, &f32)| {
        let bits = score.to_bits();
        let descending = if bits >> 31 == 0 { !bits & !(1 << 31) } else { bits };
        u64::from(descending) << 32 | place as u64
    };
    let mut keys: Vec<u64> = scores.iter().enumerate().map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| (key & u64::from(u32::MAX)) as usize).collect()
}

/// The share of the marked that is among the first `count` of an order.
fn share(order: &[usize], count: usize, marked: &[bool]) -> Option<f32> {
    let all = marked.iter().filter(|&&marked| marked).count();
    let kept = order.iter().take(count).filter(|&&at| marked[at]).count();
    (all > 0).then(|| kept as f32 / all as f32)
}

fn bought_metrics(order: &[usize], bought: &[bool]) -> Option<[f32; 3]> {
    let all = bought.iter().filter(|&&bought| bought).count();
    let others = order.len() - all;
    if all == 0 || others == 0 {
        return None;
    }
    let (mut above, mut pairs, mut found) = (0, 0, 0.0);
    for (rank, &at) in order.iter().enumerate() {
        if bought[at] {
            pairs += others - above;
            found += if rank < 100 { discount(rank) } else { 0.0 };
        } else {
            above += 1;
        }
    }
    let ideal: f64 = (0..all.min(100)).map(discount).sum();
    let auc = pairs as f64 / (all * others) as f64;
    Some([auc as f32, (found / ideal) as f32, share(order, 100, bought)?])
}

/// The mean of each metric over the lists that have it.
pub fn means(lists: impl IntoIterator<Item = Metrics>) -> [f64; METRICS.len()] {
    let (mut sums, mut counts) = ([0.0; METRICS.len()], [0.0; METRICS.len()]);
    for list in lists {
        for (metric, value) in list.into_iter().enumerate() {
            sums[metric] += f64::from(value.unwrap_or(0.0));
            counts[metric] += f64::from(u8::from(value.is_some()));
        }
    }
    std::array::from_fn(|metric| sums[metric] / f64::max(counts[metric], 1.0))
}

const RESAMPLES: usize = 1_000;

/// The mean difference of each metric, with the 2.5th and the 97.5th percentile of its bootstrap: households
/// are drawn again with replacement, each with all its lists (Efron and Tibshirani, 1993). `lists` are pairs
/// of household and difference.
pub fn intervals(lists: &[(usize, Metrics)], seed: u64) -> [[f64; 3]; METRICS.len()] {
    let households = lists.iter().map(|&(household, _)| household + 1).max().unwrap_or(0);
    let mut sums = vec![([0.0; METRICS.len()], [0.0; METRICS.len()]); households];
    for (household, list) in lists {
        for (metric, value) in list.iter().enumerate() {
            sums[*household].0[metric] += f64::from(value.unwrap_or(0.0));
            sums[*household].1[metric] += f64::from(u8::from(value.is_some()));
        }
    }
    sums.retain(|(_, counts)| counts.iter().any(|&count| count > 0.0));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn: Vec<[f64; METRICS.len()]> =
        (0..RESAMPLES).map(|_| mean_of((0..sums.len()).map(|_| &sums[random.usize(..sums.len())]))).collect();
    let mean = mean_of(sums.iter());
    std::array::from_fn(|metric| {
        drawn.sort_unstable_by(|a, b| a[metric].total_cmp(&b[metric]));
        let at = |share: f64| drawn[(share * (RESAMPLES - 1) as f64).round() as usize][metric];
        [at(0.025), mean[metric], at(0.975)]
    })
}

type Sums = ([f64; METRICS.len()], [f64; METRICS.len()]);

fn mean_of<'a>(households: impl Iterator<Item = &'a Sums>) -> [f64; METRICS.len()] {
    let (mut sums, mut counts) = ([0.0; METRICS.len()], [0.0; METRICS.len()]);
    for household in households {
        for metric in 0..METRICS.len() {
            sums[metric] += household.0[metric];
            counts[metric] += household.1[metric];
        }
    }
    std::array::from_fn(|metric| sums[metric] / f64::max(counts[metric], 1.0))
}
