package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// spark draws a curve in eighths of a line's height, so many characters wide at most, each the mean of the points that fall on
// it. The curve is scaled to its own least and most, in doublings where all is positive: a loss that halves again shows.
func spark(all []point, width int) string {
	const blocks = "▁▂▃▄▅▆▇█"
	marks := []rune(blocks)
	width = min(width, len(all))
	means := make([]float64, width)
	least, most := math.Inf(1), math.Inf(-1)
	for i := range means {
		from, to := i*len(all)/width, (i+1)*len(all)/width
		sum := 0.0
		for _, p := range all[from:to] {
			sum += p.loss
		}
		means[i] = sum / float64(to-from)
		least = math.Min(least, means[i])
	}
	if least > 0 {
		for i, v := range means {
			means[i] = doublings(v)
		}
		least = doublings(least)
	}
	for _, v := range means {
		most = math.Max(most, v)
	}
	var b strings.Builder
	for _, v := range means {
		level := 0
		if most > least {
			level = int((v - least) / (most - least) * float64(len(marks)-1))
		}
		b.WriteRune(marks[min(len(marks)-1, max(0, level))])
	}
	return b.String()
}

// doublings is about the logarithm to base 2: exact at powers of 2, and straight lines between.
func doublings(v float64) float64 {
	part, power := math.Frexp(v)
	return float64(power) + 2*part - 2
}

// bar shows what a worker's time goes to: computing, waiting, and the rest.
func bar(compute, wait float64, width int) string {
	a := int(math.Round(math.Min(1, compute) * float64(width)))
	b := min(width-a, int(math.Round(math.Min(1, wait)*float64(width))))
	return strings.Repeat("█", a) + strings.Repeat("▒", b) + strings.Repeat("·", width-a-b)
}

func percent(part float64) string {
	return fmt.Sprintf("%.0f %%", 100*math.Max(0, math.Min(part, 9.99)))
}

// rate is a number a second, with three digits when it is small.
func rate(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	return thousands(int(math.Round(v)))
}

// amount is a number of bytes.
func amount(v float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if v < 999.5 {
			if unit == "B" || v >= 99.5 {
				return fmt.Sprintf("%.0f %s", v, unit)
			}
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f TB", v)
}

// thousands writes a number in groups of three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// short is a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < 0:
		d = 0
		fallthrough
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d < 1000*24*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return "years"
}

// ellipsis cuts a text to so many characters.
func ellipsis(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return strings.TrimRight(string([]rune(s)[:width-1]), " ") + "…"
}
