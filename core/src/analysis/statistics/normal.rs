//! The normal distribution's tail.

use std::f64::consts::{PI, SQRT_2};

/// Where the series and the continued fraction both still converge fast.
const BORDER: f64 = 2.0;
const STEPS: u32 = 60;

/// The probability that a standard normal variable is greater than `z`; relative error below 1e-12.
pub fn upper_tail(z: f64) -> f64 {
    if z.is_nan() {
        return z;
    }
    let x = z.abs() / SQRT_2;
    let tail = if x < BORDER { 0.5 - erf_series(x) / 2.0 } else { erfc_fraction(x) / 2.0 };
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 ... (2n+1)) (Abramowitz and Stegun 7.1.6).
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..=STEPS {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// erfc(x) = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))) (7.1.14), from the inside out.
fn erfc_fraction(x: f64) -> f64 {
    let mut below = x;
    for n in (1..=2 * STEPS).rev() {
        below = x + f64::from(n) / 2.0 / below;
    }
    (-x * x).exp() / PI.sqrt() / below
}
