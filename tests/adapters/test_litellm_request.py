"""What of a client's body reaches litellm, and which model it is for."""

import json
from typing import Any

import pytest
from llm_label_litellm.failure import broken, refusal
from llm_label_litellm.request import PASSED, Refused, arguments, chosen

from llm_label.errors import UpstreamError, UpstreamTimeout

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]


def passed(body: dict[str, Any], address: str = "") -> dict[str, Any]:
    return arguments(CHAT, json.dumps({"model": "gemini/x", "messages": MESSAGES, **body}).encode(), address)


@pytest.mark.parametrize(
    ("address", "asked", "name"),
    [
        ("", "cohere/command-r", "cohere/command-r"),
        ("", "gpt-4o", "gpt-4o"),
        ("gemini/", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("gemini/", "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("bedrock/", "anthropic.claude-3-5-sonnet-20241022-v2:0", "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("gemini/gemini-2.5-flash", "gpt-4o", "gemini/gemini-2.5-flash"),
        ("gemini/gemini-2.5-flash", None, "gemini/gemini-2.5-flash"),
        ("gemini/gemini-2.5-flash", "https://example.org/", "gemini/gemini-2.5-flash"),
        ("bedrock/us.nova:0", "x", "bedrock/us.nova:0"),
        ("", "vertex_ai/claude-sonnet-4@20250514", "vertex_ai/claude-sonnet-4@20250514"),
    ],
)
def test_the_address_says_which_model_is_asked(address: str, asked: Any, name: str) -> None:
    assert chosen(address, asked) == name


@pytest.mark.parametrize("address", ["", "huggingface/"])
@pytest.mark.parametrize(
    "asked",
    [
        *["", None, 7, ["gpt-4o"], "x" * 301],
        *["http://10.0.0.1/v1", "huggingface/http://10.0.0.1", "huggingface//x", "huggingface/..", "a/../../b", "/etc"],
        *["gemini/x?key=1", "gemini/x#", "gemini/x y", "gemini/x\n", "gemini/%2e%2e", "gemini/x\\y", "geminí/x"],
    ],
)
def test_a_model_is_a_name_and_no_address(address: str, asked: Any) -> None:
    with pytest.raises(Refused) as refused:
        chosen(address, asked)
    assert refused.value.param == "model"


@pytest.mark.parametrize("asked", ["vllm/facebook/opt-125m", "petals/bigscience/bloom"])
def test_no_client_makes_the_proxy_load_a_model(asked: str) -> None:
    with pytest.raises(Refused, match="loaded by this server"):
        chosen("", asked)


# What litellm takes beside the parameters of the API: where requests go, with whose credentials, and what runs.
DANGEROUS = """
    api_base base_url api_key api_version api_type organization custom_llm_provider headers extra_headers extra_body
    extra_query default_headers aws_access_key_id aws_secret_access_key aws_session_token aws_region_name
    aws_role_name aws_session_name aws_profile_name aws_web_identity_token aws_sts_endpoint
    aws_bedrock_runtime_endpoint aws_external_id vertex_project vertex_location vertex_credentials
    vertex_ai_project vertex_ai_location vertex_ai_credentials azure_ad_token azure_ad_token_provider tenant_id
    client_id client_secret azure_username azure_password azure_scope timeout request_timeout stream_timeout
    num_retries max_retries fallbacks context_window_fallback_dict retry_policy mock_response mock_tool_calls
    mock_timeout mock_delay callbacks success_callback failure_callback input_callback logger_fn
    litellm_logging_obj litellm_call_id litellm_trace_id litellm_metadata litellm_params litellm_system_prompt
    model_list model_info model_config deployment_id client shared_session acompletion proxy_server_request
    secret_fields cache caching no-log verbose drop_params additional_drop_params allowed_openai_params
    modify_params merge_reasoning_content_in_choices ssl_verify use_litellm_proxy use_in_pass_through
    prompt_id prompt_variables prompt_label prompt_version bitbucket_config dotprompt_path guardrails
    guardrail_config input_cost_per_token output_cost_per_token custom_prompt_dict initial_prompt_value roles
    final_prompt_value hf_model_name eos_token bos_token force_timeout api_provider region_name watsonx_region_name
    provider_specific_header langfuse_host langfuse_public_key langfuse_secret gcs_bucket_name tags _skip_mcp_handler
    enable_json_schema_validation fake_stream kwargs oci_key_file sagemaker_base_url configurable_clientside_auth_params
"""


@pytest.mark.parametrize("field", DANGEROUS.split())
def test_no_order_for_litellm_comes_from_a_client(field: str) -> None:
    assert not any(field in known for known in PASSED.values())
    with pytest.raises(Refused, match=field) as refused:
        passed({field: "http://10.0.0.1"})
    assert (refused.value.status, refused.value.param) == (400, field)


def test_parameters_of_the_api_pass_as_they_are() -> None:
    body = {"temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["a"], "tools": [{"type": "function"}], "n": 2}
    assert passed(body) == {"model": "gemini/x", "messages": MESSAGES, **body}


def test_null_means_not_given() -> None:
    assert passed({"temperature": None, "api_base": None}) == {"model": "gemini/x", "messages": MESSAGES}


def test_metadata_stays_here() -> None:
    assert "metadata" not in passed({"metadata": {"callbacks": "langfuse"}})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "mcp", "server_url": "http://10.0.0.1"}]}, "tools"),
        ({"stream": True, "n": 2}, "n"),
    ],
)
def test_what_litellm_does_not_do_as_the_api_does_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        passed(body)
    assert refused.value.param == param


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b'"x"'])
def test_a_body_is_a_json_object(raw: bytes) -> None:
    with pytest.raises(Refused, match="the body"):
        arguments(CHAT, raw, "")


class RateLimitError(Exception):
    status_code = 429
    llm_provider = "gemini"


class AuthenticationError(Exception):
    status_code = 401
    llm_provider = "openai"


class APIConnectionError(Exception):
    status_code = 500
    llm_provider = "bedrock"


class Timeout(Exception):
    status_code = 408
    llm_provider = "bedrock"


def test_a_refusal_is_the_providers_words_in_one_line() -> None:
    wrapped = 'litellm.RateLimitError: litellm.RateLimitError: geminiException - {\n "error": {"code": 429,\n "message": "Quota\\nexceeded."}}'
    status, body = refusal(RateLimitError(wrapped), ())
    assert status == 429
    assert body["message"] == "the provider gemini: Quota exceeded"
    assert (body["type"], body["code"]) == ("rate_limit_error", "rate_limit_exceeded")


def test_a_refusal_of_the_credentials_says_nothing_about_them() -> None:
    status, body = refusal(AuthenticationError("Incorrect API key provided: sk-abc123*****xyz"), ())
    assert (status, body["message"]) == (401, "the provider refused the operator's credentials (401)")


@pytest.mark.parametrize(
    "text",
    [
        "400 for https://host/v1beta/models/x:generateContent?key=Hx7secretHx7&alt=sse",
        "headers {'Authorization': 'Bearer Hx7secretHx7'}",
        "api_key='Hx7secretHx7' is wrong",
        "x-api-key: Hx7secretHx7",
        "aws_secret_access_key=Hx7secretHx7",
        "AWS4-HMAC-SHA256 Credential=Hx7secretHx7/20260101/us-east-1, Signature=Hx7secretHx7",
        "Incorrect API key provided: sk-Hx7secretHx7",
        "the operator's own words: my pass phrase",
        "Traceback (most recent call last):\n  File key.py\n Hx7secretHx7",
    ],
)
def test_no_secret_stands_in_a_message(text: str) -> None:
    said = str(broken(RateLimitError(text), ["my pass phrase"]))
    assert "Hx7secret" not in said and "pass phrase" not in said
    assert "\n" not in said and "Traceback" not in said


def test_no_answer_is_an_error_of_the_upstream() -> None:
    with pytest.raises(UpstreamTimeout, match="did not answer in time"):
        refusal(Timeout("litellm.Timeout: x"), ())
    with pytest.raises(UpstreamError, match="the provider bedrock: cannot connect") as failed:
        refusal(APIConnectionError("litellm.APIConnectionError: cannot connect"), ())
    assert failed.value.status == 502
