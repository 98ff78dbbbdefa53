package digits

// The shapes are pen strokes on a square of 100 by 100, y downwards, written the ways people write digits. A stroke
// goes through its points: as a smooth curve, or straight from one to the next.

type point struct{ x, y float32 }

type stroke struct {
	smooth bool
	at     []point
}

type shape []stroke

func curve(at ...point) stroke { return stroke{true, at} }
func line(at ...point) stroke  { return stroke{false, at} }

var shapes = [10][]shape{
	{ // 0: round, narrow, not quite closed, with a crossing
		{curve(point{50, 10}, point{29, 23}, point{22, 50}, point{29, 77}, point{50, 90}, point{71, 77}, point{78, 50}, point{71, 23}, point{50, 10})},
		{curve(point{54, 8}, point{38, 22}, point{33, 50}, point{38, 78}, point{51, 92}, point{64, 78}, point{68, 50}, point{65, 22}, point{54, 8})},
		{curve(point{64, 16}, point{44, 10}, point{27, 28}, point{22, 56}, point{34, 84}, point{56, 90}, point{75, 72}, point{78, 44}, point{66, 20}, point{50, 15})},
	},
	{ // 1: a stroke, with a flag, with flag and foot
		{line(point{50, 9}, point{50, 91})},
		{line(point{34, 30}, point{53, 9}, point{53, 91})},
		{line(point{34, 26}, point{51, 10}, point{51, 90}), line(point{31, 90}, point{71, 90})},
	},
	{ // 2: with a corner, with a loop, with a wave
		{curve(point{25, 30}, point{33, 14}, point{52, 9}, point{70, 20}, point{70, 39}, point{52, 62}, point{24, 88}), line(point{24, 88}, point{78, 88})},
		{curve(point{26, 27}, point{42, 10}, point{66, 14}, point{72, 34}, point{54, 62}, point{32, 84}, point{22, 78}, point{34, 70}, point{56, 84}, point{80, 85})},
		{curve(point{24, 20}, point{48, 9}, point{72, 20}, point{66, 44}, point{26, 88}), curve(point{26, 88}, point{50, 81}, point{80, 88})},
	},
	{ // 3: two bows, flat top, one flowing line
		{curve(point{26, 20}, point{48, 9}, point{70, 20}, point{68, 38}, point{44, 47}), curve(point{44, 47}, point{70, 55}, point{75, 74}, point{52, 91}, point{24, 80})},
		{line(point{26, 11}, point{73, 11}, point{45, 43}), curve(point{45, 43}, point{70, 51}, point{75, 73}, point{51, 91}, point{24, 81})},
		{curve(point{28, 16}, point{52, 9}, point{69, 22}, point{60, 40}, point{42, 48}, point{62, 52}, point{73, 68}, point{62, 88}, point{40, 91}, point{25, 82})},
	},
	{ // 4: open, closed, open with a round corner
		{line(point{32, 12}, point{25, 54}, point{79, 54}), line(point{65, 10}, point{63, 91})},
		{line(point{61, 90}, point{61, 9}, point{21, 63}, point{80, 63})},
		{curve(point{29, 13}, point{25, 38}, point{34, 52}, point{66, 48}), curve(point{71, 11}, point{67, 48}, point{61, 91})},
	},
	{ // 5: with corners, cap drawn last, like an S
		{line(point{73, 11}, point{35, 11}, point{31, 45}), curve(point{31, 45}, point{52, 38}, point{73, 53}, point{72, 77}, point{49, 91}, point{24, 81})},
		{curve(point{38, 14}, point{32, 44}, point{56, 46}, point{71, 64}, point{60, 86}, point{28, 89}), line(point{38, 13}, point{76, 10})},
		{curve(point{71, 13}, point{44, 12}, point{32, 28}, point{47, 45}, point{69, 58}, point{68, 82}, point{44, 91}, point{24, 82})},
	},
	{ // 6: bowed, straight, wide
		{curve(point{66, 11}, point{41, 30}, point{26, 62}, point{36, 87}, point{59, 90}, point{73, 72}, point{61, 54}, point{40, 58}, point{28, 72})},
		{curve(point{54, 8}, point{38, 40}, point{28, 70}, point{44, 91}, point{66, 82}, point{67, 62}, point{48, 55}, point{30, 70})},
		{curve(point{74, 18}, point{52, 9}, point{30, 28}, point{23, 60}, point{34, 86}, point{60, 90}, point{76, 70}, point{60, 50}, point{38, 53}, point{25, 66})},
	},
	{ // 7: plain, with a bar, curved, with a serif
		{line(point{23, 13}, point{77, 13}, point{44, 91})},
		{line(point{24, 14}, point{75, 13}, point{45, 91}), line(point{36, 50}, point{72, 49})},
		{curve(point{22, 18}, point{46, 12}, point{76, 14}), curve(point{76, 14}, point{57, 46}, point{47, 91})},
		{line(point{24, 28}, point{24, 13}, point{76, 12}, point{50, 91})},
	},
	{ // 8: one crossing line, two rings, open at the top
		{curve(point{50, 48}, point{31, 31}, point{37, 12}, point{62, 10}, point{71, 27}, point{50, 48}, point{28, 67}, point{34, 89}, point{62, 91}, point{74, 69}, point{50, 48})},
		{curve(point{50, 9}, point{33, 18}, point{33, 38}, point{50, 47}, point{67, 38}, point{67, 18}, point{50, 9}), curve(point{50, 47}, point{30, 58}, point{29, 81}, point{50, 91}, point{71, 81}, point{70, 58}, point{50, 47})},
		{curve(point{70, 17}, point{47, 9}, point{31, 24}, point{49, 45}, point{71, 68}, point{54, 91}, point{29, 78}, point{45, 53}, point{71, 19})},
	},
	{ // 9: straight stem, bowed tail, one line
		{curve(point{70, 27}, point{53, 10}, point{31, 20}, point{30, 42}, point{52, 51}, point{70, 30}), line(point{71, 14}, point{66, 91})},
		{curve(point{70, 24}, point{50, 9}, point{29, 24}, point{34, 47}, point{58, 49}, point{71, 26}), curve(point{71, 26}, point{73, 58}, point{60, 86}, point{33, 89})},
		{curve(point{68, 18}, point{45, 9}, point{28, 26}, point{36, 46}, point{60, 42}, point{69, 20}, point{64, 56}, point{50, 91})},
	},
}
