//! What was known before a week began. Every feature and every recall channel reads the purchases through
//! here, so nothing of the week that is predicted, or of a later one, can reach them.

use crate::data::{Data, Visit, Weeks};

/// The products' past: for each week, what was true before it began.
pub struct Past<'a> {
    pub data: &'a Data,
    /// A row a product, a column a week: household-weeks of purchases before the week.
    purchases: Vec<ByWeek>,
    /// Households that had bought it, and that had bought it in at least two weeks.
    buyers: Vec<ByWeek>,
    returners: Vec<ByWeek>,
}

/// The weeks that the tables have a row for: 0 to 53.
const WEEKS: usize = 54;

type ByWeek = [u32; WEEKS];

/// A household before a visit.
pub struct Known {
    pub visit: Visit,
    /// The products bought before, ascending, with the weeks before the visit's.
    pub bought: Vec<(u32, Weeks)>,
    /// Purchases before, by department, category, type and maker.
    pub departments: Vec<f32>,
    pub categories: Vec<f32>,
    pub kinds: Vec<f32>,
    pub makers: Vec<f32>,
    /// The last week with a purchase of the category and of the type; 0 if there is none.
    pub category_last: Vec<u8>,
    pub kind_last: Vec<u8>,
    /// All purchases before the visit, and those in the last four weeks.
    pub total: f32,
    pub lately: f32,
    /// The weeks before in which the household bought anything.
    pub visits: Weeks,
}

impl Past<'_> {
    pub fn new(data: &Data) -> Past<'_> {
        let zeros = || vec![[0; WEEKS]; data.products.len()];
        let (mut purchases, mut buyers, mut returners) = (zeros(), zeros(), zeros());
        for bought in data.households.iter().flat_map(|household| &household.bought) {
            let product = bought.product as usize;
            let mut rest = bought.weeks.0;
            for time in 0..bought.weeks.count() {
                // What happens in a week is known from the next one on.
                let known_from = rest.trailing_zeros() as usize + 1;
                rest &= rest - 1;
                if known_from < WEEKS {
                    purchases[product][known_from] += 1;
                    buyers[product][known_from] += u32::from(time == 0);
                    returners[product][known_from] += u32::from(time == 1);
                }
            }
        }
        for table in [&mut purchases, &mut buyers, &mut returners] {
            for of_product in table {
                (1..WEEKS).for_each(|week| of_product[week] += of_product[week - 1]);
            }
        }
        Past { data, purchases, buyers, returners }
    }

    /// The purchases of a product in the `count` weeks before `week`.
    pub fn purchases(&self, product: usize, week: u8, count: u8) -> f32 {
        let (from, purchases) = (week.saturating_sub(count), &self.purchases[product]);
        (purchases[week as usize] - purchases[from as usize]) as f32
    }

    /// The households that bought a product before `week`.
    pub fn buyers(&self, product: usize, week: u8) -> f32 {
        self.buyers[product][week as usize] as f32
    }

    /// The share of a product's buyers before `week` that bought it again, pulled towards a fifth.
    pub fn return_rate(&self, product: usize, week: u8) -> f32 {
        (self.returners[product][week as usize] as f32 + 1.0) / (self.buyers(product, week) + 5.0)
    }

    pub fn household(&self, visit: Visit) -> Known {
        let (data, week) = (self.data, visit.week);
        let levels = data.levels;
        let mut known = Known {
            visit,
            bought: Vec::new(),
            departments: vec![0.0; levels.departments],
            categories: vec![0.0; levels.categories],
            kinds: vec![0.0; levels.kinds],
            makers: vec![0.0; levels.makers],
            category_last: vec![0; levels.categories],
            kind_last: vec![0; levels.kinds],
            total: 0.0,
            lately: 0.0,
            visits: Weeks::default(),
        };
        for bought in &data.households[visit.household].bought {
            let weeks = bought.weeks.before(week);
            if let Some(last) = weeks.last() {
                known.add(bought.product, weeks, last, data);
            }
        }
        known
    }
}

impl Known {
    fn add(&mut self, product: u32, weeks: Weeks, last: u8, data: &Data) {
        let of = data.products[product as usize];
        let times = weeks.count() as f32;
        self.bought.push((product, weeks));
        self.departments[of.department] += times;
        self.categories[of.category] += times;
        self.kinds[of.kind] += times;
        self.makers[of.maker] += times;
        self.category_last[of.category] = self.category_last[of.category].max(last);
        self.kind_last[of.kind] = self.kind_last[of.kind].max(last);
        self.total += times;
        self.lately += weeks.latest(self.visit.week, 4).count() as f32;
        self.visits.0 |= weeks.0;
    }

    /// The weeks before the visit in which the household bought this product.
    pub fn weeks(&self, product: u32) -> Weeks {
        let found = self.bought.binary_search_by_key(&product, |&(product, _)| product);
        found.map_or(Weeks::default(), |place| self.bought[place].1)
    }
}
