# SPDX-License-Identifier: MPL-2.0

# One layer for each architecture: Lambda would start every file of extensions/, so that one zip cannot serve two.
resource "aws_lambda_layer_version" "extension" {
  for_each = var.zip_paths

  layer_name               = "${var.name}-${each.key}"
  description              = var.description
  filename                 = each.value
  source_code_hash         = filebase64sha256(each.value)
  compatible_architectures = [each.key]
  license_info             = "MPL-2.0"
  skip_destroy             = var.keep_old_versions
  # No compatible_runtimes: the extension is a static program, and runs beside every runtime.
}
