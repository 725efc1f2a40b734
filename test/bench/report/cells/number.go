// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	sizeInName  = regexp.MustCompile(`(\d+(?:\.\d+)?)\s?(B|KiB|MiB|GiB)\b`)
	countInName = regexp.MustCompile(`(\d[\d,]*(?:\.\d+)?)\s?([kM]?)\b`)
	factors     = map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "": 1, "k": 1e3,
		"M": 1e6}
)

// Size finds the number of bytes in the name of a cell, and returns also the rest of the name.
func Size(name string) (bytes float64, rest string, ok bool) { return number(sizeInName, name) }

// Number finds the first count in the name of a cell: "100k flows", "1,000 flows".
func Number(name string) (n float64, rest string, ok bool) { return number(countInName, name) }

func number(form *regexp.Regexp, name string) (n float64, rest string, ok bool) {
	at := form.FindStringSubmatchIndex(name)
	if at == nil {
		return 0, name, false
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(name[at[2]:at[3]], ",", ""), 64)
	if err != nil {
		return 0, name, false
	}
	rest = strings.Join(strings.Fields(name[:at[0]]+" "+name[at[1]:]), " ")
	return n * factors[name[at[4]:at[5]]], strings.Trim(rest, ", "), n > 0
}
