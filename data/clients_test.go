package data

import (
	"slices"
	"strings"
	"testing"
)

// Each client uses each of its samples exactly once an epoch, in another order in the next, in proportion to what it owns.
func TestClientsUseTheirOwnOnce(t *testing.T) {
	parts := deal(101, []int{3, 70, 28}, 5)
	s, err := NewClientSampler(parts, 101, 10, 7)
	if err != nil {
		t.Fatal(err)
	}
	if s.Steps() != 11 {
		t.Fatalf("%d steps, expected 11", s.Steps())
	}
	again, _ := NewClientSampler(parts, 101, 10, 7)
	for c, own := range parts {
		var orders [2][]int
		for epoch := range orders {
			for step := range s.Steps() {
				got := s.Shard(epoch, step, c)
				if len(got) != s.Count(step, c) || len(got) < len(own)/11 || len(got) > len(own)/11+1 {
					t.Errorf("client %d of %d samples: %d in step %d, Count says %d", c, len(own), len(got), step, s.Count(step, c))
				}
				orders[epoch] = append(orders[epoch], got...)
			}
			if last := again.Shard(epoch, 10, c); !slices.Equal(last, s.Shard(epoch, 10, c)) {
				t.Errorf("client %d: step 10 depends on what was asked before", c)
			}
			if sorted := slices.Sorted(slices.Values(orders[epoch])); !slices.Equal(sorted, slices.Sorted(slices.Values(own))) {
				t.Errorf("client %d, epoch %d: used %v, owns %v", c, epoch, sorted, own)
			}
		}
		if len(own) > 5 && slices.Equal(orders[0], orders[1]) {
			t.Errorf("client %d: the same order in both epochs", c)
		}
	}
	sum := 0
	for step := range s.Steps() {
		sum += s.Size(step)
	}
	if sum != 101 {
		t.Errorf("%d samples an epoch, expected 101", sum)
	}
}

func TestClientSamplerRefuses(t *testing.T) {
	for want, parts := range map[string][][]int{
		"client 1 owns no sample":         {{0, 1, 2}, {}},
		"client 1 owns sample 2, which":   {{0, 2}, {1, 2}},
		"client 0 owns sample 3, which":   {{0, 3}, {1, 2}},
		"the clients own 2 of 3 samples":  {{0}, {1}},
		"client 0 owns sample -1, which ": {{-1}, {1}},
	} {
		if _, err := NewClientSampler(parts, 3, 2, 1); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: error %v, expected %s", parts, err, want)
		}
	}
	if _, err := NewClientSampler([][]int{{0, 1}}, 2, 3, 1); err == nil {
		t.Error("a batch of 3 of 2 samples is taken")
	}
}
