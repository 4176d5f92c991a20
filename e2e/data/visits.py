#!/usr/bin/env python3
"""Prints two years of made-up visits to a park as CSV: the data of docs/getting-started.md. The same every time."""

import csv
import random
import sys
from datetime import date, timedelta

FIRST, DAYS = date(2024, 1, 1), 731
SEASON = [2, 4, 8, 13, 18, 22, 24, 24, 19, 13, 7, 3]
HOLIDAYS = {(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)}

chance = random.Random(42)
rows = csv.writer(sys.stdout, lineterminator="\n")
rows.writerow(["day", "temperature", "rain", "holiday", "visitors"])
for day in (FIRST + timedelta(n) for n in range(DAYS)):
    temperature = SEASON[day.month - 1] + chance.gauss(0, 4)
    rain = max(0.0, chance.gauss(-2, 5))
    holiday = (day.month, day.day) in HOLIDAYS
    free = holiday or day.weekday() >= 5
    visitors = 120 + 14 * temperature - 9 * rain + 160 * free + chance.gauss(0, 40)
    # A broken sensor now and then: the column is nullable.
    shown = "" if chance.random() < 0.02 else f"{temperature:.1f}"
    rows.writerow([day, shown, f"{rain:.1f}", str(holiday).lower(), max(0, round(visitors))])
