"""Holds recorded speech against what was spoken: how intelligible it is, and how late.

python judge.py SPOKEN RECORDED: both are raw, 16-bit little-endian, mono, 48 kHz. SPOKEN is one
round of what was spoken round and round. Prints one JSON object:

  stoi        short-time objective intelligibility (Taal et al. 2011) of all that was recorded
  lags        objects: `at` this time of the recording, in ms, it was `lag` ms behind the
              spoken round (modulo a round); `alike` is the correlation of the two
  spoken_ms   time of the recording in which there was speech to be heard
  lost_ms     of that, time in which nothing like it was

A jitter buffer stretches time, so the two are aligned anew for each quarter of a second.
"""

import json
import sys

import numpy as np
from pystoi import stoi
from scipy.signal import butter, fftconvolve, resample_poly, sosfiltfilt

FULL = 48_000  # samples a second of the files
RATE = 8_000  # of what is correlated
WIDE = 2 * RATE  # a window that finds its place anywhere in the round
NARROW = RATE // 2  # one that finds it near there
HOP = RATE // 4
REACH = RATE * 3 // 10  # how near: what a jitter buffer may stretch
SURE = 0.35  # least correlation of a place that counts
FAINT = 0.02  # share of the mean power of speech under which there is none
LOUD = 0.1  # share from which on it cannot be missed
PITCH = RATE // 100  # how far a place may be mistaken by a period of the voice
STRETCH = RATE // 50  # how far by time that is stretched within a piece
EPS = 1e-9


def band(samples):
    """What of speech a codec keeps the shape of, at RATE."""
    sections = butter(4, [150, 3_400], btype="band", fs=RATE, output="sos")
    return sosfiltfilt(sections, resample_poly(samples, 1, FULL // RATE))


def places(long, short):
    """The normalised correlation of short with long at each place."""
    energy = fftconvolve(long * long, np.ones(len(short)), mode="valid")
    product = fftconvolve(long, short[::-1], mode="valid")
    floor = FAINT * len(short) * np.mean(long * long)
    return product / np.sqrt(np.maximum(energy, floor) * (np.dot(short, short) + EPS))


def coarse(heard, round_):
    """The lag of each wide window, where it is sure: (middle, lag)."""
    twice = np.concatenate([round_, round_[: WIDE]])
    found = []
    for start in range(0, max(len(heard) - WIDE, 0) + 1, WIDE // 4):
        window = heard[start : start + WIDE]
        if len(window) < WIDE or np.dot(window, window) < EPS:
            continue
        match = places(twice, window)[: len(round_)]
        place = int(np.argmax(match))
        if match[place] >= SURE:
            found.append((start + WIDE // 2, (start - place) % len(round_)))
    return found


def unwrap(found, period):
    """Lags that go on from each other instead of round; those far from most are no find."""
    middles = np.array([middle for middle, _ in found])
    turns = np.exp(2j * np.pi * np.array([lag for _, lag in found]) / period)
    # the lag that most agree with
    votes = np.abs(np.angle(turns[:, None] / turns[None, :])) < 2 * np.pi * 2 * RATE / period
    centre = turns[np.argmax(votes.sum(1))]
    lags = (np.angle(centre) + np.angle(turns / centre)) * period / (2 * np.pi)
    near = np.abs(np.angle(turns / centre)) < 2 * np.pi * 2 * RATE / period
    return middles[near], lags[near]


def unheard(line, said, got, wanted):
    """How many samples of a piece are nothing like what was said. Where time is stretched
    inside it, each half has its own place."""

    def is_like(at, part, reach):
        return places(line[at - reach : at + len(part) + reach], part).max() >= SURE

    floor = FAINT * np.mean(wanted * wanted)
    half = len(got) // 2
    if np.mean(got * got) >= floor and is_like(said, got, PITCH):
        return 0
    lost = 0
    for at in (0, half):
        part = got[at : at + half]
        if np.mean(part * part) < floor or not is_like(said + at, part, STRETCH):
            lost += half
    return lost


def judge(spoken, recorded):
    heard, round_ = band(recorded), band(spoken)
    period = len(round_)
    power = np.mean(round_ * round_)
    result = {"stoi": None, "lags": [], "spoken_ms": 0.0, "lost_ms": 0.0}
    found = coarse(heard, round_) if len(heard) >= WIDE else []
    if not found:
        return result
    middles, lags = unwrap(found, period)

    rounds = len(heard) // period + 4
    # the recording's begin lies in the second round, whatever its lag
    line = np.tile(round_, rounds)
    pieces, lag = [], None
    for start in range(0, len(heard) - NARROW + 1, HOP):
        middle = start + NARROW // 2
        expected = np.interp(middle, middles, lags)
        place = int(round(start - expected)) + 2 * period
        near = line[max(place - REACH, 0) : place + NARROW + REACH]
        window = heard[start : start + NARROW]
        match = places(near, window)
        at = int(np.argmax(match))
        # both of the window and of what was spoken there must be speech to know more
        lag_here = start + 2 * period - (max(place - REACH, 0) + at)
        sure = match[at] >= SURE and np.mean(window * window) > FAINT * power
        if sure:
            lag = lag_here
            result["lags"].append(
                {
                    "at": 1_000 * middle / RATE,
                    "lag": 1_000 * (lag % period) / RATE,
                    "alike": round(float(match[at]), 3),
                }
            )
        held = lag if sure else expected
        # what the piece in the middle of this window should have been
        begin = start + (NARROW - HOP) // 2
        said = int(round(begin - held)) + 2 * period
        wanted, got = line[said : said + HOP], heard[begin : begin + HOP]
        pieces.append((begin, said))
        if np.mean(wanted * wanted) > LOUD * power:
            result["spoken_ms"] += 1_000 * HOP / RATE
            lost = unheard(line, said, got, wanted)
            result["lost_ms"] += 1_000 * lost / RATE
    scale, hop = FULL // RATE, HOP * FULL // RATE
    wide = np.tile(spoken, rounds)
    clean = [wide[said * scale : said * scale + hop] for _, said in pieces]
    coded = [recorded[begin * scale : begin * scale + hop] for begin, _ in pieces]
    result["stoi"] = float(stoi(np.concatenate(clean), np.concatenate(coded), FULL))
    return result


if __name__ == "__main__":
    files = [np.fromfile(name, dtype="<i2").astype(float) / 32_768 for name in sys.argv[1:3]]
    json.dump(judge(*files), sys.stdout)
