//! The purchases: who bought what in which week, read from `data/purchases.zst`, and the split by time.

use std::ops::RangeInclusive;

/// Made by `data/make.py`, which says how it is laid out.
const PACKED: &[u8] = include_bytes!("../data/purchases.zst");

/// What the index and the towers are trained on ends here; 47 and 48 were there to choose settings by.
pub const LAST_TRAIN_WEEK: u8 = 46;
pub const VALIDATION: RangeInclusive<u8> = 47..=48;
pub const TEST: RangeInclusive<u8> = 49..=52;

/// A product is in the catalogue from this many purchases in the weeks of training.
const LEAST_PURCHASES: u32 = 5;

/// Households and products are places from here on: `0..households` and `0..products`.
pub struct Data {
    pub households: Vec<Household>,
    /// The catalogue first, then the products that are too rare for it.
    pub products: Vec<Product>,
    pub catalogue: usize,
    /// How many levels each attribute of a product has.
    pub levels: Levels,
    /// The names of departments, types and sizes, by code.
    pub names: Names,
    /// How many levels each of the seven demographics has.
    pub demographics: Vec<usize>,
}

pub struct Household {
    pub id: u32,
    /// Ascending by product.
    pub bought: Vec<Bought>,
    /// A level for each of the seven demographics; 0 where it is not known.
    pub demographics: Vec<usize>,
}

/// The weeks in which a household bought a product.
#[derive(Clone, Copy)]
pub struct Bought {
    pub product: u32,
    pub weeks: Weeks,
}

/// A set of weeks, 1 to 53, as bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Weeks(pub u64);

impl Weeks {
    pub fn before(self, week: u8) -> Weeks {
        Weeks(self.0 & ((1 << week) - 1))
    }

    /// Those among the `count` weeks before `week`.
    pub fn latest(self, week: u8, count: u8) -> Weeks {
        Weeks(self.before(week).0 & !((1 << week.saturating_sub(count)) - 1))
    }

    pub fn has(self, week: u8) -> bool {
        self.0 >> week & 1 == 1
    }

    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn first(self) -> Option<u8> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as u8)
    }

    pub fn last(self) -> Option<u8> {
        (!self.is_empty()).then(|| 63 - self.0.leading_zeros() as u8)
    }
}

#[derive(Clone, Copy)]
pub struct Product {
    /// The item id in the index.
    pub id: u64,
    pub department: usize,
    pub category: usize,
    pub kind: usize,
    pub maker: usize,
    pub brand: usize,
    pub size: usize,
}

#[derive(Clone, Copy)]
pub struct Levels {
    pub departments: usize,
    pub categories: usize,
    pub kinds: usize,
    pub makers: usize,
}

pub struct Names {
    pub departments: Vec<String>,
    pub kinds: Vec<String>,
    pub sizes: Vec<String>,
}

impl Data {
    /// All of the data; or, with `every` above 1, one household in so many and what they buy.
    pub fn load(every: usize) -> Data {
        let packed = zstd::decode_all(PACKED).expect("the file in the repository is whole");
        let mut columns = Columns { rest: &packed };
        let mut households = columns.households();
        let mut products = columns.products();
        let names = [(); 5].map(|()| columns.attribute());
        for (place, product) in products.iter_mut().enumerate() {
            let code = |attribute: usize| names[attribute].0[place] as usize;
            product.department = code(0);
            product.category = code(1);
            product.kind = code(2);
            product.brand = code(3);
            product.size = code(4);
        }
        let mut demographics = Vec::new();
        while !columns.rest.is_empty() {
            let (codes, names) = columns.attribute();
            demographics.push(names.len());
            households.iter_mut().zip(codes).for_each(|(of, code)| of.demographics.push(code as usize));
        }
        households = households.into_iter().step_by(every).collect();
        let catalogue = put_catalogue_first(&mut households, &mut products);
        let [departments, categories, kinds, _, sizes] = names.map(|(_, names)| names);
        let levels = Levels {
            departments: departments.len(),
            categories: categories.len(),
            kinds: kinds.len(),
            makers: number_makers(&mut products),
        };
        let names = Names { departments, kinds, sizes };
        Data { households, products, catalogue, levels, names, demographics }
    }

    /// A product in words, such as "BANANAS, 40 LB".
    pub fn name(&self, product: usize) -> String {
        let Product { kind, size, .. } = self.products[product];
        let (kind, size) = (&self.names.kinds[kind], &self.names.sizes[size]);
        let kind = if kind.is_empty() { "(no type)" } else { kind };
        if size.is_empty() { kind.to_owned() } else { format!("{kind}, {size}") }
    }

    /// Each household that bought something in one of these weeks, week by week.
    pub fn visits(&self, weeks: RangeInclusive<u8>) -> Vec<Visit> {
        let bought = |household: &Household, week| household.bought.iter().any(|b| b.weeks.has(week));
        weeks
            .flat_map(|week| (0..self.households.len()).map(move |household| Visit { household, week }))
            .filter(|visit| bought(&self.households[visit.household], visit.week))
            .collect()
    }

    /// The products of the catalogue that a household bought in a week, ascending.
    pub fn bought(&self, visit: Visit) -> Vec<u32> {
        let bought = self.households[visit.household].bought.iter();
        let bought = bought.filter(|b| b.weeks.has(visit.week) && (b.product as usize) < self.catalogue);
        bought.map(|b| b.product).collect()
    }
}

/// A household in a week: what a request is in production.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    pub household: usize,
    pub week: u8,
}

impl Visit {
    /// Random numbers of this visit alone, whatever thread draws them.
    pub fn random(self, seed: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(seed ^ ((self.household as u64) << 8 | u64::from(self.week)) << 16)
    }
}

/// Renumbers products so that those with enough purchases in training come first; returns how many these are.
fn put_catalogue_first(households: &mut [Household], products: &mut Vec<Product>) -> usize {
    let mut purchases = vec![0; products.len()];
    for bought in households.iter().flat_map(|household| &household.bought) {
        purchases[bought.product as usize] += bought.weeks.before(LAST_TRAIN_WEEK + 1).count();
    }
    let (catalogue, rare): (Vec<usize>, Vec<usize>) =
        (0..products.len()).partition(|&product| purchases[product] >= LEAST_PURCHASES);
    let mut place = vec![0; products.len()];
    for (new, &old) in catalogue.iter().chain(&rare).enumerate() {
        place[old] = new as u32;
    }
    *products = catalogue.iter().chain(&rare).map(|&old| products[old]).collect();
    for household in households {
        household.bought.iter_mut().for_each(|bought| bought.product = place[bought.product as usize]);
        household.bought.sort_unstable_by_key(|bought| bought.product);
    }
    catalogue.len()
}

/// Gives makers the numbers `0..makers`; returns how many there are.
fn number_makers(products: &mut [Product]) -> usize {
    let mut makers: Vec<usize> = products.iter().map(|product| product.maker).collect();
    makers.sort_unstable();
    makers.dedup();
    for product in products {
        product.maker = makers.binary_search(&product.maker).expect("each maker is listed");
    }
    makers.len()
}

struct Columns<'a> {
    rest: &'a [u8],
}

impl Columns<'_> {
    fn number(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.rest.split_first().expect("the file in the repository is whole");
            self.rest = rest;
            value |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return value;
            }
        }
    }

    fn column(&mut self) -> Vec<u64> {
        let count = self.number();
        (0..count).map(|_| self.number()).collect()
    }

    /// A column of which each value is the distance to the one before.
    fn summed(&mut self) -> Vec<u64> {
        let mut sum = 0;
        let add = |step| {
            sum += step;
            sum
        };
        self.column().into_iter().map(add).collect()
    }

    fn texts(&mut self) -> Vec<String> {
        let bytes = self.column().into_iter().map(|byte| byte as u8).collect();
        let text = String::from_utf8(bytes).expect("names are UTF-8");
        text.split('\n').map(str::to_owned).collect()
    }

    /// A code for each product or household, and the names of the codes.
    fn attribute(&mut self) -> (Vec<u64>, Vec<String>) {
        (self.column(), self.texts())
    }

    fn households(&mut self) -> Vec<Household> {
        let ids = self.summed();
        let purchases = self.column();
        let (steps, weeks) = (self.column(), self.column());
        let _quantities = self.column();
        let mut lines = steps.into_iter().zip(weeks);
        let mut bought = |lines_of_it: u64| {
            let (mut bought, mut product) = (Vec::<Bought>::new(), 0);
            for (step, week) in lines.by_ref().take(lines_of_it as usize) {
                product += step as u32;
                match bought.last_mut() {
                    Some(last) if last.product == product => last.weeks.0 |= 1 << week,
                    _ => bought.push(Bought { product, weeks: Weeks(1 << week) }),
                }
            }
            bought
        };
        let make = |(id, lines)| Household { id: id as u32, bought: bought(lines), demographics: Vec::new() };
        ids.into_iter().zip(purchases).map(make).collect()
    }

    fn products(&mut self) -> Vec<Product> {
        let (ids, makers) = (self.summed(), self.column());
        let make = |(id, maker)| Product {
            id,
            maker: maker as usize,
            department: 0,
            category: 0,
            kind: 0,
            brand: 0,
            size: 0,
        };
        ids.into_iter().zip(makers).map(make).collect()
    }
}
