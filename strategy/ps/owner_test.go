package ps

import "testing"

// Rows are dealt evenly, whatever numbers they have, and another server takes its share from each of the others and leaves all
// else where it was.
func TestOwners(t *testing.T) {
	for _, servers := range []int{1, 2, 3, 4, 10, 64} {
		now, more := newOwners(servers), newOwners(servers+1)
		for name, row := range map[string]func(i uint64) uint64{"neighbours": func(i uint64) uint64 { return i }, "far": func(i uint64) uint64 { return i << 40 }} {
			const rows = 200000
			count, lost := make([]int, servers), make([]int, servers)
			for i := range uint64(rows) {
				a, b := now.of(row(i)), more.of(row(i))
				count[a]++
				if a != b {
					lost[a]++
				}
				if a != b && b != servers {
					t.Fatalf("%d servers, %s: row %d moves from server %d to %d, and server %d is the new one", servers, name, row(i), a, b, servers)
				}
			}
			for s, n := range count {
				if share := rows / servers; n < share*85/100 || n > share*115/100 || servers <= 4 && (n < share*97/100 || n > share*103/100) {
					t.Errorf("%d servers, %s: server %d has %d rows, its share is %d", servers, name, s, n, share)
				}
				if share := n / (servers + 1); lost[s] > 2*share+100 {
					t.Errorf("%d servers, %s: server %d loses %d rows to another one, whose share of them is %d", servers, name, s, lost[s], share)
				}
			}
		}
	}
}
