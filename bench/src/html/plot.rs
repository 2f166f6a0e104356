//! Plots as SVG, readable on a light and on a dark page: no background, words in grey.

use super::data::{GrowthSeries, LoadTrial, Quantile, Results, RivalRow, Turn};
use crate::generator::Size;
use crate::numbers::Spread;
use crate::report::star;
use crate::rivals::{Scenario, Work};
use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const SIZE: (u32, u32) = (860, 420);

/// Readable on white and on black.
const GREY: RGBColor = RGBColor(128, 128, 128);
const FONT: &str = "sans-serif";

/// Told apart by most eyes (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(148, 103, 189),
    RGBColor(128, 128, 128),
];

fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// One line or one bar's values, with a name.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

fn failed(error: &impl std::fmt::Display) -> anyhow::Error {
    anyhow!("draw a plot: {error}")
}

/// Bars: what each forwarder carries without loss, by flows, with least and most of the rounds.
pub(crate) fn throughput(results: &Results) -> Result<Option<String>> {
    let rows = results.rivals.iter().flat_map(|file| &file.results.rows);
    let bars: Vec<Bar> = rows
        .filter(|row| row.scenario.size == Size::LEAST)
        .filter_map(|row| match row.scenario.work {
            Work::Stream(flows) => Some((row, flows, row.paced_mpps?)),
            Work::NewFlows | Work::Connections => None,
        })
        .collect();
    let most = bars.iter().map(|(_, _, spread)| spread.max).fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return Ok(None);
    }
    let mut svg = String::new();
    draw_bars(&mut svg, &bars, most * 1.1).map_err(|error| failed(&error))?;
    Ok(Some(svg))
}

/// A row, its flows, what it carries.
type Bar<'a> = (&'a RivalRow, u32, Spread);

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw_bars(svg: &mut String, bars: &[Bar], most: f64) -> Drawn {
    let flows: Vec<u32> =
        bars.iter().map(|(_, flows, _)| *flows).collect::<BTreeSet<_>>().into_iter().collect();
    let height = 90 + 24 * u32::try_from(bars.len())?;
    let root = SVGBackend::with_string(svg, (SIZE.0, height)).into_drawing_area();
    let count = i32::try_from(bars.len())?;
    let is_starred = bars.iter().any(|(row, ..)| row.is_generator_bound);
    let legend = if is_starred { " (* generator-bound)" } else { "" };
    let caption = format!("Without loss, million packets per second, 64 B{legend}");
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, (FONT, 18, &GREY))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..most, (0..count).into_segmented())?;
    let label = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(at) => usize::try_from(count - 1 - at)
            .ok()
            .and_then(|at| bars.get(at))
            .map_or(String::new(), bar_name),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.3))
        .axis_style(GREY)
        .label_style((FONT, 13, &GREY))
        .y_labels(bars.len())
        .y_label_formatter(&label)
        .draw()?;
    for (at, (_, of, spread)) in (0..count).rev().zip(bars) {
        let place = flows.iter().position(|flows| flows == of).unwrap_or(0);
        let (low, high) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
        let mut bar = Rectangle::new([(0.0, low), (spread.median, high)], colour(place).filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(at);
        let line = vec![(spread.min, middle.clone()), (spread.max, middle)];
        chart.draw_series([PathElement::new(line, GREY.stroke_width(2))])?;
    }
    root.present()?;
    Ok(())
}

/// With a star where the generator was the limit.
fn bar_name((row, flows, _): &Bar) -> String {
    format!("{}{}, {}", row.forwarder, star(row.is_generator_bound), flow_count(*flows))
}

fn flow_count(flows: u32) -> String {
    if flows == 1 { "1 flow".into() } else { format!("{flows} flows") }
}

/// Lines: what arrives of what is sent, with ten thousand flows.
pub(crate) fn offered(results: &Results) -> Result<Option<String>> {
    let turns: Vec<&Turn> = results.rivals.iter().flat_map(|file| &file.results.turns).collect();
    let load = Scenario::stream(10_000);
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for turn in turns.iter().filter(|turn| turn.scenario == load) {
        let line = lines.entry(&turn.forwarder).or_default();
        let points = turn.paced.iter().chain(turn.flood.as_ref());
        line.extend(points.map(|point| (point.sent_pps / 1e6, point.delivered_pps / 1e6)));
    }
    let series: Vec<Series> =
        lines.into_iter().map(|(name, points)| sorted(name, points)).collect();
    let title = format!("Delivered of what is offered, Mpps, {load}");
    plain(&title, &series)
}

fn sorted(name: &str, mut points: Vec<(f64, f64)>) -> Series {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Series { name: name.into(), points }
}

/// Lines against services, backends, flows and queues, each a plot of its own.
pub(crate) fn growth(results: &Results) -> Result<Vec<String>> {
    let grown = results.growth.iter().flat_map(|file| &file.results.series);
    let mut all: Vec<GrowthSeries> = grown.cloned().collect();
    if !all.iter().any(|series| series.against == "flows") {
        all.extend(in_memory(results));
    }
    let kinds: BTreeSet<(String, String)> =
        all.iter().map(|series| (series.against.clone(), series.unit.clone())).collect();
    let mut plots = Vec::new();
    for (against, unit) in kinds {
        let of = all.iter().filter(|s| s.against == against && s.unit == unit);
        let series: Vec<Series> = of.map(|s| sorted(&s.name, logarithms(&s.points))).collect();
        let name = format!("{unit} against {against}, powers of ten");
        plots.extend(plain(&name, &series)?);
    }
    Ok(plots)
}

fn logarithms(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().filter(|(x, _)| *x > 0.0).map(|(x, y)| (x.log10(), *y)).collect()
}

/// The pipeline's rows that exist at several numbers of flows.
fn in_memory(results: &Results) -> Vec<GrowthSeries> {
    let mut by_name: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for row in results.memory.iter().flat_map(|file| file.results.rows()) {
        by_name.entry(&row.name).or_default().push((f64::from(row.flows), row.ns_per_packet));
    }
    let grown = by_name.into_iter().filter(|(_, points)| points.len() > 1);
    grown
        .map(|(name, points)| GrowthSeries {
            name: name.into(),
            against: "flows".into(),
            unit: "ns per packet".into(),
            points,
        })
        .collect()
}

/// Lines: latency by percentile, the percentiles by their nines as hdr-plot draws them.
pub(crate) fn latency(results: &Results) -> Result<Option<String>> {
    let rows = results.latency.iter().flat_map(|file| &file.results.rows);
    let curves = rows.map(|row| (row.forwarder.clone(), row.percentiles.as_slice()));
    by_percentile("Latency by percentile, µs", curves)
}

/// Lines: latency by percentile at each load of the newest load test.
pub(crate) fn load(results: &Results) -> Result<Option<String>> {
    let points = results.load.iter().flat_map(|file| &file.results.curve);
    let name = |trial: &LoadTrial| format!("{:.3} Mpps", trial.rate_pps / 1e6);
    let curves = points.map(|point| (name(&point.trial), point.percentiles.as_slice()));
    by_percentile("Latency by percentile and load, µs", curves)
}

fn by_percentile<'a>(
    title: &str,
    curves: impl Iterator<Item = (String, &'a [Quantile])>,
) -> Result<Option<String>> {
    let nines = |at: &Quantile| (at.quantile < 1.0).then(|| (-(1.0 - at.quantile).log10(), at.us));
    let series: Vec<Series> = curves
        .map(|(name, curve)| sorted(&name, curve.iter().filter_map(nines).collect()))
        .filter(|series| !series.points.is_empty())
        .collect();
    if series.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let most = extent(&series);
    let x = Nines(0.0..most.0.ceil().max(1.0));
    let drawn = draw_lines(&mut svg, title, &series, x, &|x| percentile(*x), most.1);
    drawn.map_err(|error| failed(&error))?;
    Ok(Some(svg))
}

fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    let text = format!("{percent:.6}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// An axis with a mark at each nine.
#[derive(Clone)]
struct Nines(Range<f64>);

impl Ranged for Nines {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        plotters::coord::types::RangedCoordf64::from(self.0.clone()).map(value, limit)
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        (0..=16).map(f64::from).filter(|nine| *nine <= self.0.end).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.clone()
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Nines {
    fn format(value: &f64) -> String {
        percentile(*value)
    }
}

fn extent(series: &[Series]) -> (f64, f64) {
    let points = series.iter().flat_map(|series| &series.points);
    points.fold((0.0, 0.0), |most: (f64, f64), p| (most.0.max(p.0), most.1.max(p.1)))
}

fn plain(title: &str, series: &[Series]) -> Result<Option<String>> {
    let most = extent(series);
    if most.0 <= 0.0 || most.1 <= 0.0 {
        return Ok(None);
    }
    let mut svg = String::new();
    let x = plotters::coord::types::RangedCoordf64::from(0.0..most.0 * 1.05);
    let label = |x: &f64| format!("{x:.1}");
    draw_lines(&mut svg, title, series, x, &label, most.1).map_err(|error| failed(&error))?;
    Ok(Some(svg))
}

fn draw_lines<X>(
    svg: &mut String,
    title: &str,
    series: &[Series],
    x: X,
    label: &dyn Fn(&f64) -> String,
    most: f64,
) -> Drawn
where
    X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18, &GREY))
        .margin(10)
        .margin_right(40)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(x, 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.3))
        .axis_style(GREY)
        .label_style((FONT, 13, &GREY))
        .x_label_formatter(label)
        .draw()?;
    for (at, line) in series.iter().enumerate() {
        let style = colour(at).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 13, &GREY))
        .border_style(TRANSPARENT)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::data::{File, Growth, Latency, LatencyRow, Memory, MemoryRow};
    use crate::report::Environment;

    #[test]
    fn one_flow_is_one() {
        assert_eq!([1, 10_000].map(flow_count), ["1 flow", "10000 flows"]);
    }

    #[test]
    fn growth_against_flows_is_drawn_once() {
        let row = |flows| MemoryRow {
            name: "established".into(),
            flows,
            ns_per_packet: 30.0,
            min_max: (29.0, 31.0),
        };
        let memory = Memory::Rows(vec![row(10), row(1000)]);
        let memory = Some(File { environment: Environment::default(), results: memory });
        let mut results = Results { memory, ..Results::default() };
        assert_eq!(growth(&results).unwrap().len(), 1);
        let series = GrowthSeries {
            name: "established".into(),
            against: "flows".into(),
            unit: "ns/packet".into(),
            points: vec![(10.0, 30.0), (1000.0, 31.0)],
        };
        let grown = Growth { series: vec![series] };
        results.growth = Some(File { environment: Environment::default(), results: grown });
        assert_eq!(growth(&results).unwrap().len(), 1);
    }

    #[test]
    fn nines_are_percentiles() {
        let said: Vec<String> = [0.0, 1.0, 2.0, 3.0].into_iter().map(percentile).collect();
        assert_eq!(said, ["0%", "90%", "99%", "99.9%"]);
    }

    #[test]
    fn a_latency_curve_is_drawn_without_its_end_at_infinity() {
        let curve = [(0.0, 1.0), (0.5, 2.0), (0.999, 5.0), (1.0, 9e6)];
        let percentiles = curve.map(|(quantile, us)| Quantile { quantile, us }).to_vec();
        let row = LatencyRow { forwarder: "tidegate".into(), percentiles, ..LatencyRow::default() };
        let results = Latency { rows: vec![row], ..Latency::default() };
        let file = File { environment: Environment::default(), results };
        let svg = latency(&Results { latency: Some(file), ..Results::default() }).unwrap().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("99.9%") && svg.contains("tidegate"));
        assert!(latency(&Results::default()).unwrap().is_none());
    }
}
