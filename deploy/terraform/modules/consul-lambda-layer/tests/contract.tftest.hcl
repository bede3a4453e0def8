# SPDX-License-Identifier: MPL-2.0

mock_provider "aws" {
  source = "../../testdata/mocks"
}

run "one_layer_for_each_architecture" {
  variables {
    zip_paths = { x86_64 = "main.tf", arm64 = "outputs.tf" }
  }

  assert {
    condition = jsonencode({ for arch, layer in aws_lambda_layer_version.extension : arch => [layer.layer_name, layer.filename, tolist(layer.compatible_architectures)] }) == jsonencode({
      x86_64 = ["consul-lambda-extension-x86_64", "main.tf", ["x86_64"]]
      arm64  = ["consul-lambda-extension-arm64", "outputs.tf", ["arm64"]]
    })
    error_message = "A layer is not its architecture's."
  }
  assert {
    condition     = alltrue([for layer in aws_lambda_layer_version.extension : layer.source_code_hash == filebase64sha256(layer.filename)])
    error_message = "A new zip would not make a new version."
  }
  assert {
    condition     = output.layer_arns == { for arch, layer in aws_lambda_layer_version.extension : arch => layer.arn }
    error_message = jsonencode(output.layer_arns)
  }
}

run "names_and_old_versions" {
  variables {
    zip_paths         = { arm64 = "main.tf" }
    name              = "mesh"
    description       = "Release 1"
    keep_old_versions = true
  }

  assert {
    condition = (aws_lambda_layer_version.extension["arm64"].layer_name == "mesh-arm64" &&
    aws_lambda_layer_version.extension["arm64"].description == "Release 1" && aws_lambda_layer_version.extension["arm64"].skip_destroy)
    error_message = "The layer is not as its variables say."
  }
}

run "an_architecture_that_lambda_does_not_have" {
  command = plan
  variables {
    zip_paths = { amd64 = "main.tf" }
  }
  expect_failures = [var.zip_paths]
}
