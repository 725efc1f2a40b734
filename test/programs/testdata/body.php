<?php // SPDX-License-Identifier: Apache-2.0
readfile(__DIR__ . "/body");
