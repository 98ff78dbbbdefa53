package data

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// Partitions are the ways to divide samples among clients that Partition knows, as they are written.
var Partitions = []string{"iid", "contiguous", "label:2", "dirichlet:0.5", "size:1.5", "sizes:100,200,300"}

// Partition divides the samples of ds among clients. Each sample belongs to exactly one client, each client gets at
// least one, and its sample numbers come in increasing order. The result depends on ds, clients, how and seed alone. how is
//
//	iid            a random equal part each; sizes differ by at most one
//	contiguous     an equal run each, in the order of the data
//	label:k        samples of only k classes each. Each client draws k different classes from a bag that holds every
//	               class once and is filled again when it runs out; a class's samples are dealt to its clients in equal
//	               parts. Clients times k must be at least the number of classes
//	dirichlet:a    classes in proportions of its own each, equal sizes (below)
//	size:a         a random part each, of sizes in proportion to 1, 2^-a, 3^-a, ...: a power law
//	sizes:n,n,...  a random part of each given size; the sizes add up to the number of samples
//
// dirichlet is the construction of Hsu, Qi and Brown (arXiv 1909.06335, section 3): client c draws class proportions
// q ~ Dirichlet(a p), where p is the class distribution of ds, and then draws its samples one by one, a class by q and an
// unused sample of it; a class that is used up leaves q, which is scaled to sum to 1 again. Clients have equal sizes, so
// a is smaller, at the same skew, than in the variant that divides each class among clients by a draw over clients and
// leaves sizes to chance. a near 0 gives each client one class; a large gives each the distribution of ds.
func Partition(ds Dataset, clients int, how string, seed uint64) ([][]int, error) {
	sp, err := spec.Parse(how)
	if err != nil {
		return nil, err
	}
	n := ds.Len()
	if clients < 1 || clients > n {
		return nil, fmt.Errorf("partition %s: %d clients for %d samples: expected 1 to %d", how, clients, n, n)
	}
	var parts [][]int
	switch sp.Name {
	case "iid", "contiguous":
		if err := sp.Done(); err != nil {
			return nil, err
		}
		order := all(n)
		if sp.Name == "iid" {
			shuffle(order, seed, "data/partition/iid")
		}
		for c := range clients {
			lo, hi := Slice(c, clients, n)
			parts = append(parts, order[lo:hi:hi])
		}
	case "label":
		k := sp.Int("k", 2)
		if err := sp.Done(); err != nil {
			return nil, err
		}
		parts, err = byLabel(ds, clients, k, seed)
	case "dirichlet":
		alpha := sp.Float("alpha", 0.5)
		if err := sp.Done(); err != nil {
			return nil, err
		}
		if alpha <= 0 || alpha > 1e6 {
			return nil, fmt.Errorf("partition dirichlet: alpha is %v, expected above 0 and at most 1e6", alpha)
		}
		parts, err = dirichlet(ds, clients, alpha, seed)
	case "size":
		a := sp.Float("exponent", 1)
		if err := sp.Done(); err != nil {
			return nil, err
		}
		if a < 0 || a > 10 {
			return nil, fmt.Errorf("partition size: the exponent is %v, expected 0 to 10", a)
		}
		parts = deal(n, powerLaw(n, clients, a), seed)
	case "sizes":
		sizes := sp.Ints("size")
		if err := sp.Done(); err != nil {
			return nil, err
		}
		sum := 0
		for _, s := range sizes {
			if s > n {
				return nil, fmt.Errorf("partition sizes: a client of %d samples, but there are only %d", s, n)
			}
			sum += s
		}
		if len(sizes) != clients || sum != n {
			return nil, fmt.Errorf("partition sizes: %d sizes that sum to %d, expected %d sizes, one a client, that sum to %d samples", len(sizes), sum, clients, n)
		}
		parts = deal(n, sizes, seed)
	default:
		return nil, KnownPartition(sp.Name)
	}
	if err != nil {
		return nil, err
	}
	for c, p := range parts {
		if len(p) == 0 {
			return nil, fmt.Errorf("partition %s: client %d of %d would have no sample: use fewer clients", how, c, clients)
		}
		slices.Sort(p)
	}
	return parts, nil
}

// KnownPartition returns nil for the name of a way to divide samples, and otherwise an error that says the nearest.
func KnownPartition(name string) error {
	return spec.OneOf("partition", name, "iid", "contiguous", "label", "dirichlet", "size", "sizes")
}

// deal gives each client a random part of its size.
func deal(n int, sizes []int, seed uint64) [][]int {
	order := all(n)
	shuffle(order, seed, "data/partition/size")
	parts := make([][]int, len(sizes))
	for c, s := range sizes {
		parts[c], order = order[:s:s], order[s:]
	}
	return parts
}

// powerLaw divides n into sizes proportional to (c+1)^-a, at least 1 each, by largest remainder.
func powerLaw(n, clients int, a float64) []int {
	weight := make([]float64, clients)
	sum := 0.0
	for c := range weight {
		weight[c] = exp(-float64(a * ln(float64(c+1))))
		sum += weight[c]
	}
	sizes, rest := make([]int, clients), make([]float64, clients)
	left := n - clients
	for c, w := range weight {
		share := float64(float64(n-clients)*w) / sum
		sizes[c] = 1 + int(share)
		rest[c] = share - float64(int(share))
		left -= int(share)
	}
	order := all(clients)
	slices.SortStableFunc(order, func(x, y int) int {
		switch {
		case rest[x] > rest[y]:
			return -1
		case rest[x] < rest[y]:
			return 1
		}
		return 0
	})
	for k := 0; left > 0; k, left = (k+1)%clients, left-1 {
		sizes[order[k]]++
	}
	return sizes
}

// classLists returns each class's samples, shuffled.
func classLists(ds Dataset, how string, seed uint64) ([][]int, error) {
	in := ds.Info()
	if in.Task != Classification || in.Classes < 1 {
		return nil, fmt.Errorf("partition %s: %s has no classes (%s): use iid, contiguous or size", how, in.Name, in.Task)
	}
	lists := make([][]int, in.Classes)
	for i := range ds.Len() {
		c := ds.Label(i)
		if c < 0 || c >= in.Classes {
			return nil, fmt.Errorf("partition %s: sample %d has no label", how, i)
		}
		lists[c] = append(lists[c], i)
	}
	for c, l := range lists {
		shuffle(l, seed, "data/partition/class", uint64(c))
	}
	return lists, nil
}

func byLabel(ds Dataset, clients, k int, seed uint64) ([][]int, error) {
	lists, err := classLists(ds, "label", seed)
	if err != nil {
		return nil, err
	}
	var present []int
	for c, l := range lists {
		if len(l) > 0 {
			present = append(present, c)
		}
	}
	if k < 1 || k > len(present) {
		return nil, fmt.Errorf("partition label: %d classes a client, expected 1 to %d", k, len(present))
	}
	if clients*k < len(present) {
		return nil, fmt.Errorf("partition label:%d: %d clients of %d classes leave some of the %d classes to nobody: use at least %d classes a client",
			k, clients, k, len(present), (len(present)+clients-1)/clients)
	}
	owners := make([][]int, len(lists)) // clients of each class
	var bag []int
	for c, fill := 0, uint64(0); c < clients; c++ {
		var mine []int
		for len(mine) < k {
			at := slices.IndexFunc(bag, func(l int) bool { return !slices.Contains(mine, l) })
			if at < 0 {
				fresh := slices.Clone(present)
				shuffle(fresh, seed, "data/partition/bag", fill)
				fill++
				bag = append(bag, fresh...)
				continue
			}
			mine = append(mine, bag[at])
			bag = slices.Delete(bag, at, at+1)
		}
		for _, l := range mine {
			owners[l] = append(owners[l], c)
		}
	}
	parts := make([][]int, clients)
	for l, list := range lists {
		for j, c := range owners[l] {
			lo, hi := Slice(j, len(owners[l]), len(list))
			parts[c] = append(parts[c], list[lo:hi]...)
		}
	}
	return parts, nil
}

func dirichlet(ds Dataset, clients int, alpha float64, seed uint64) ([][]int, error) {
	lists, err := classLists(ds, "dirichlet", seed)
	if err != nil {
		return nil, err
	}
	n := ds.Len()
	share := make([]float64, len(lists)) // alpha p
	for c, l := range lists {
		share[c] = float64(alpha*float64(len(l))) / float64(n)
	}
	parts := make([][]int, clients)
	for c := range parts {
		r := rng.New(seed, "data/partition/dirichlet", uint64(c))
		q := dirichletDraw(r, share)
		lo, hi := Slice(c, clients, n)
		for range hi - lo {
			l := pick(r, q, lists)
			last := len(lists[l]) - 1
			parts[c] = append(parts[c], lists[l][last])
			lists[l] = lists[l][:last]
		}
	}
	return parts, nil
}

// Table prints how many samples of each class each client has: one line a client, one column a class (the first
// twenty), and the client's total.
func Table(w io.Writer, ds Dataset, parts [][]int) error {
	in := ds.Info()
	shown := min(in.Classes, 20)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := []string{"client", "samples"}
	for c := range shown {
		name := strconv.Itoa(c)
		if c < len(in.Labels) {
			name = in.Labels[c]
		}
		head = append(head, name)
	}
	if shown < in.Classes {
		head = append(head, fmt.Sprintf("%d more", in.Classes-shown))
	}
	fmt.Fprintln(t, strings.Join(head, "\t")+"\t")
	for c, ids := range parts {
		count := make([]int, shown+1)
		for _, i := range ids {
			if l := ds.Label(i); l >= 0 {
				count[min(l, shown)]++
			}
		}
		fmt.Fprintf(t, "%d\t%d\t", c, len(ids))
		for l := range shown {
			fmt.Fprintf(t, "%d\t", count[l])
		}
		if shown < in.Classes {
			fmt.Fprintf(t, "%d\t", count[shown])
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
