package network

// torus is a grid of hosts that is closed in every dimension. Hosts are numbered with the last dimension fastest, so that
// a row is a run of numbers. Messages go dimension by dimension, the last first, each the shorter way around.
type torus struct {
	dims []int
	size []int // hosts from one step in a dimension to the next
	// links by 2*(host*len(dims)+dimension), one step forward from a host and then one step back; -1: none
	links []int32
}

// path walks along each dimension. Halfway around, hosts with an even coordinate go forward and the others back, which
// loads both ways alike, and where there are but two hosts needs one link between them.
func (t *torus) path(dst []int, from, to int) []int {
	at := from
	for d := len(t.dims) - 1; d >= 0; d-- {
		n, size := t.dims[d], t.size[d]
		x, y := at/size%n, to/size%n
		ahead := (y - x + n) % n
		steps, back := ahead, 0
		if 2*ahead > n || 2*ahead == n && x%2 == 1 {
			steps, back = n-ahead, 1
		}
		for range steps {
			dst = append(dst, int(t.links[2*(at*len(t.dims)+d)+back]))
			x = at / size % n
			if back == 1 {
				at += ((x-1+n)%n - x) * size
			} else {
				at += ((x+1)%n - x) * size
			}
		}
	}
	return dst
}

func (b *builder) torus(p *torusPlan) {
	t := &torus{dims: p.dims, size: make([]int, len(p.dims))}
	hosts := 1
	for d := len(p.dims) - 1; d >= 0; d-- {
		t.size[d] = hosts
		hosts *= p.dims[d]
	}
	b.n.routes = t
	for range hosts {
		b.place(&p.host, "", true)
	}
	t.links = make([]int32, 2*hosts*len(p.dims))
	for i := range t.links {
		t.links[i] = -1
	}
	for h := range hosts {
		for d, n := range p.dims {
			x := h / t.size[d] % n
			next := h + ((x+1)%n-x)*t.size[d]
			if n == 1 || n == 2 && x == 1 {
				continue
			}
			b.row("link", p.where+" link", b.n.Hosts[h].Name+"-"+b.n.Hosts[next].Name, 0, nil, &p.link)
			ahead, back := b.pair(&p.link, b.n.Hosts[h].Name, b.n.Hosts[next].Name)
			t.links[2*(h*len(p.dims)+d)], t.links[2*(next*len(p.dims)+d)+1] = ahead, back
		}
	}
}
