// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
)

func tableCommand(io.Writer, []string) error { return errors.New("not yet") }
